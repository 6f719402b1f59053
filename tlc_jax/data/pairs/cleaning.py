"""Which pairs are left out of training, and why. Sets that are evaluated on are never cleaned."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

KEPT = 0
# in the order of the checks; a pair is counted once
REASONS = ("kept", "empty", "ratio", "same language", "duplicate", "in an evaluation set", "too long")
_SLACK = 10  # characters: short sentences differ more
_WORDS = 4  # fewer words may be a name, the same everywhere


def verdict(source: str, target: str, max_ratio: float) -> int:
    """Judge a pair by its two sides alone: KEPT, or the index of a reason to leave it out."""
    if not source.strip() or not target.strip():
        return REASONS.index("empty")
    shorter, longer = sorted((len(source), len(target)))
    if longer + _SLACK > max_ratio * (shorter + _SLACK):
        return REASONS.index("ratio")
    if same_language(source, target):
        return REASONS.index("same language")
    return KEPT


def same_language(source: str, target: str) -> bool:
    """Whether two sides, each of at least four different words, share more than half of all their words."""
    words, others = set(source.casefold().split()), set(target.casefold().split())
    return min(len(words), len(others)) >= _WORDS and 2 * len(words & others) > len(words | others)


def likeness(sentence: str) -> str:
    """What is equal in sentences that differ only in case, spaces or punctuation."""
    return "".join(re.findall(r"\w+", sentence.casefold())) or sentence.strip()


def leave_out(
    verdicts: UInt8[np.ndarray, "pairs"],
    sides: UInt64[np.ndarray, "pairs 2"],
    evaluated: UInt64[np.ndarray, "sentences 2"],
) -> None:
    """Change the verdict of each kept pair with a side that is like a sentence of an evaluation set. `sides`
    and `evaluated` are hashes of the `likeness` of source and target."""
    like = np.isin(sides[:, 0], evaluated[:, 0]) | np.isin(sides[:, 1], evaluated[:, 1])
    verdicts[(verdicts == KEPT) & like] = REASONS.index("in an evaluation set")


def judge_all(
    verdicts: UInt8[np.ndarray, "pairs"],
    pairs: UInt64[np.ndarray, "pairs"],
    sides: UInt64[np.ndarray, "pairs 2"],
    evaluated: UInt64[np.ndarray, "sentences 2"],
) -> UInt8[np.ndarray, "pairs"]:
    """The verdicts after the checks that need all pairs: evaluation sets (see `leave_out`) and duplicates, by
    `pairs`, hashes of both sides as they are."""
    judged = verdicts.copy()
    leave_out(judged, sides, evaluated)
    kept = np.flatnonzero(judged == KEPT)
    _, first = np.unique(pairs[kept], return_index=True)
    repeated: Bool[np.ndarray, "kept"] = np.ones(len(kept), bool)
    repeated[first] = False
    judged[kept[repeated]] = REASONS.index("duplicate")
    return judged
