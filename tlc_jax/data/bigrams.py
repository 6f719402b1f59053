"""Bigram models of token ids: counts of neighbouring tokens, smoothed.

Witten-Bell smoothing (Witten and Bell 1991, as in Chen and Goodman 1998, 2.5): a history h that has T(h)
different neighbours in c(h) positions gives p(w|h) = (c(h,w) + T(h) p(w)) / (c(h) + T(h)), where the unigram
p(w) is smoothed with the uniform distribution in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Integer

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LARGEST_SAMPLE = 1 << 26
"""Tokens counted at most; of more text, evenly spaced rows."""
CHUNK = 1 << 22
"""Tokens counted at a time."""

Pairs = tuple[Integer[np.ndarray, "pairs"], Integer[np.ndarray, "pairs"]]
"""First and second token of each pair of neighbours."""


def count_pairs(chunks: Iterable[Pairs], vocab_size: int) -> csr_array:
    """How often each token follows each other one: [first, second] int64."""
    from scipy import sparse

    counts = sparse.csr_array((vocab_size, vocab_size), dtype=np.int64)
    for first, second in chunks:
        pairs = (first.astype(np.int32), second.astype(np.int32))
        ones = np.ones(len(first), np.int64)
        counts = counts + sparse.coo_array((ones, pairs), shape=counts.shape).tocsr()  # adds equal pairs up
    return counts


@dataclass(frozen=True)
class Bigrams:
    """p(w|h) = seen[h, w] + unseen[h] * unigram[w]; each row of it sums to 1."""

    seen: csr_array
    unseen: Float64[np.ndarray, "vocab"]
    unigram: Float64[np.ndarray, "vocab"]

    def probability(
        self, history: Integer[np.ndarray, "pairs"], word: Integer[np.ndarray, "pairs"]
    ) -> Float64[np.ndarray, "pairs"]:
        """p(word|history) of each pair."""
        return self.seen[history, word] + self.unseen[history] * self.unigram[word]


def witten_bell(counts: csr_array, unigram: Float64[np.ndarray, "vocab"]) -> Bigrams:
    """The model of counts [history, word]; a history that never occurred leaves the unigram."""
    occurrences, neighbours = counts.sum(axis=1), np.diff(counts.indptr)
    total = np.maximum(occurrences + neighbours, 1)
    seen = counts.multiply(1 / total[:, None]).tocsr()
    return Bigrams(seen, np.where(occurrences > 0, neighbours / total, 1.0), unigram)


def smoothed_unigram(counts: Integer[np.ndarray, "vocab"]) -> Float64[np.ndarray, "vocab"]:
    """p(w) of counts of tokens; every id of the vocabulary gets some of it."""
    total, types = counts.sum(), np.count_nonzero(counts)
    return (counts + types / len(counts)) / (total + types)
