"""The two-sided bigram: what counts of neighbouring pairs say of a masked token. A masked language model that
is not better has learned nothing that counting does not give.

If the neighbours l and r are independent given the token w between them,

    p(w | l, r) = p(w | l) p(w | r) / p(w), normalized over the vocabulary,

with both conditionals by Witten-Bell (data/bigrams.py), the second one from counts of what precedes r.

What is seen is the corrupted input (masking.py). A token o is at the position itself with P(o | w): 0.8 if it
is <mask>, 0.1 if it is w, and 0.1 / D if it is one of the D tokens that may be drawn at random. A neighbour
may have been replaced, too, and then says nothing of w: its factor p(w | l) / p(w) is mixed with 1 by the
probability that it was replaced, which is 1 for <mask>. Beside the first and the last token of a row
is the row's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int, Integer

from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.bigrams import (
    CHUNK,
    LARGEST_SAMPLE,
    Pairs,
    count_pairs,
    smoothed_unigram,
    witten_bell,
)
from tlc_jax.data.text.document_subset import DocumentSubset
from tlc_jax.data.text.masking import KEPT, MASKED, RANDOM, MaskedBatch

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BLOCK = 1 << 22  # numbers at a time; a prediction needs at most as many as the vocabulary has tokens


class TwoSidedBigram:
    """The model of training rows [rows, length] that are masked at a `rate`. The end of a row is counted as a
    pad, which is never a neighbour inside of it."""

    def __init__(self, rows: Integer[np.ndarray, "rows length"] | DocumentSubset, roles: Roles, rate: float):
        self._roles, self._rate, vocab_size = roles, rate, roles.vocab_size
        self._is_drawn = np.isin(np.arange(vocab_size), roles.drawn)
        step = max(1, -(-rows.size // LARGEST_SAMPLE))
        counts = count_pairs(_chunks(rows[::step], roles.pad), vocab_size)
        after, before = _without_end(counts, roles), _without_end(counts.T.tocsr(), roles)
        unigram = smoothed_unigram(after.sum(axis=0))
        self._unigram = unigram
        self._left, self._right = witten_bell(after, unigram), witten_bell(before, unigram)
        self._right_over_unigram = self._right.seen.multiply(1 / unigram[None, :]).tocsr()

    def nats(self, batch: MaskedBatch) -> Float64[np.ndarray, "batch slots"]:
        """-log p of each target of a batch of masking.py; 0 for slots without one."""
        ends = ((0, 0), (1, 1))
        tokens = np.pad(batch["tokens"], ends, constant_values=self._roles.pad)
        row, slot = np.nonzero(batch["weights"])
        at = batch["positions"][row, slot] + 1
        left, token, right = tokens[row, at - 1], tokens[row, at], tokens[row, at + 1]
        targets, probabilities = batch["targets"][row, slot], np.zeros(len(row))
        size = max(1, _BLOCK // self._roles.vocab_size)
        for start in range(0, len(row), size):
            part = slice(start, start + size)
            probabilities[part] = self.probability(left[part], token[part], right[part], targets[part])
        result = np.zeros(batch["targets"].shape)
        result[row, slot] = -np.log(probabilities)
        return result

    def probability(
        self,
        left: Int[np.ndarray, "n"],
        token: Int[np.ndarray, "n"],
        right: Int[np.ndarray, "n"],
        target: Int[np.ndarray, "n"],
    ) -> Float64[np.ndarray, "n"]:
        """p(target | what the input has at the position and beside it)."""

        def score(word: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
            """p(w) times the factors of both neighbours, each a mixture with 1."""
            unigram, product = self._unigram[word], self._unigram[word]
            for model, neighbour in ((self._left, left), (self._right, right)):
                replaced = self._replaced(neighbour)
                product = product * ((1 - replaced) * model.probability(neighbour, word) / unigram + replaced)
            return product

        drawn = RANDOM / len(self._roles.drawn)
        other = np.where(self._is_drawn[token], drawn, 0.0)  # P(token | any other word)
        other += np.where(token == self._roles.mask, MASKED, 0.0)
        joint = score(target) * (other + KEPT * (token == target))
        return joint / (other * self._total(left, right) + KEPT * score(token))

    def _replaced(self, neighbour: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """The probability that a neighbour in the input stands in place of another token."""
        drawn = self._rate * RANDOM / len(self._roles.drawn)
        left_alone = (1 - self._rate * (MASKED + RANDOM)) * self._unigram[neighbour]
        replaced = np.where(self._is_drawn[neighbour], drawn / (drawn + left_alone), 0.0)
        return np.where(neighbour == self._roles.mask, 1.0, replaced)

    def _total(self, left: Int[np.ndarray, "n"], right: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
        """The sum of `score` over the vocabulary, without a term for each word of it.

        The factor of a neighbour is a constant a, plus s(w) for the words that were seen beside it; the sum
        of p(w) (a + s(w)) is 1. So the sum of p (a + s) (b + t) is a + b - a b and the sum of p s t, which is
        over the words that were seen beside both.
        """
        share, other_share = 1 - self._replaced(left), 1 - self._replaced(right)
        a = share * self._left.unseen[left] + 1 - share
        b = other_share * self._right.unseen[right] + 1 - other_share
        both = self._left.seen[left].multiply(self._right_over_unigram[right]).sum(axis=1)
        return a + b - a * b + share * other_share * both


def _chunks(rows: Integer[np.ndarray, "rows length"], end: int) -> Iterator[Pairs]:
    """Neighbouring tokens; the first and the last one of a row have an end beside them."""
    size = max(1, CHUNK // rows.shape[1])
    for start in range(0, len(rows), size):
        tokens = np.pad(rows[start : start + size], ((0, 0), (1, 1)), constant_values=end)
        first, second = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
        real = (first != end) | (second != end)
        yield first[real], second[real]


def _without_end(counts: csr_array, roles: Roles) -> csr_array:
    """Counts [neighbour, word] without the ends as words, which are never predicted."""
    from scipy import sparse

    word = np.arange(roles.vocab_size) != roles.pad
    kept = sparse.csr_array(counts.multiply(word[None, :]))
    kept.eliminate_zeros()
    return kept
