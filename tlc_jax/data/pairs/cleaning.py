"""Which pairs are not trained on, and why. Sets that are evaluated on are never cleaned."""

from __future__ import annotations

import re

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


def likeness(sentence: str) -> str:
    """What sentences have in common that differ in case, spaces or punctuation only."""
    return "".join(re.findall(r"\w+", sentence.casefold())) or sentence.strip()


def leave_out(
    verdicts: UInt8[np.ndarray, "pairs"],
    sides: UInt64[np.ndarray, "pairs 2"],
    evaluated: UInt64[np.ndarray, "sentences 2"],
) -> None:
    """Pairs of which a side is like one that is evaluated on are not trained on. Both are hashes of the
    likeness of source and target."""
    like = np.isin(sides[:, 0], evaluated[:, 0]) | np.isin(sides[:, 1], evaluated[:, 1])
    verdicts[(verdicts == KEPT) & like] = REASONS.index("in an evaluation set")


def judge_all(
    verdicts: UInt8[np.ndarray, "pairs"],
    pairs: UInt64[np.ndarray, "pairs"],
    sides: UInt64[np.ndarray, "pairs 2"],
    evaluated: UInt64[np.ndarray, "sentences 2"],
) -> UInt8[np.ndarray, "pairs"]:
    """Adds what only all pairs together tell. `pairs` are hashes of both sides as they are; for the others
    see `leave_out`."""
    found = verdicts.copy()
    leave_out(found, sides, evaluated)
    kept = np.flatnonzero(found == KEPT)
    _, first = np.unique(pairs[kept], return_index=True)
    again: Bool[np.ndarray, "kept"] = np.ones(len(kept), bool)
    again[first] = False
    found[kept[again]] = REASONS.index("duplicate")
    return found
