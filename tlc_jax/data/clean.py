"""Which pairs are not trained on, and why. Sets that are evaluated on are never cleaned."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

KEPT = 0
# in the order in which they are looked for; a pair is counted once
REASONS = ("kept", "empty", "ratio", "same language", "duplicate", "in an evaluation set", "too long")
_SLACK = 10  # characters: short sentences differ more
_WORDS = 4  # fewer words may be a name, the same everywhere


def verdict(source: str, target: str, max_ratio: float) -> int:
    """What a pair's own two sides say: the number of a reason, or KEPT."""
    if not source.strip() or not target.strip():
        return REASONS.index("empty")
    shorter, longer = sorted((len(source), len(target)))
    if longer + _SLACK > max_ratio * (shorter + _SLACK):
        return REASONS.index("ratio")
    if same_language(source, target):
        return REASONS.index("same language")
    return KEPT


def same_language(source: str, target: str) -> bool:
    """Whether more than half of all words of two sides of four words and more are on both."""
    one, other = set(source.casefold().split()), set(target.casefold().split())
    return min(len(one), len(other)) >= _WORDS and 2 * len(one & other) > len(one | other)


def judge_all(
    verdicts: UInt8[np.ndarray, "pairs"],
    pairs: UInt64[np.ndarray, "pairs"],
    sources: UInt64[np.ndarray, "pairs"],
    evaluated: UInt64[np.ndarray, "sentences"],
) -> UInt8[np.ndarray, "pairs"]:
    """Adds what only all pairs together tell. `pairs` and `sources` are hashes of both sides and of the
    source; `evaluated` those of source sentences that are evaluated on."""
    found = verdicts.copy()
    found[(found == KEPT) & np.isin(sources, evaluated)] = REASONS.index("in an evaluation set")
    kept = np.flatnonzero(found == KEPT)
    _, first = np.unique(pairs[kept], return_index=True)
    again: Bool[np.ndarray, "kept"] = np.ones(len(kept), bool)
    again[first] = False
    found[kept[again]] = REASONS.index("duplicate")
    return found
