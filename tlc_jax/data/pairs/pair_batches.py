"""Batches of sentence pairs: buckets of two lengths, each batch of about as many tokens, in few shapes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

from tlc_jax.core import stopping
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.bucketing import Buckets, Indices, Shape, Stretch, gather_rows, joined_ranges

ENOUGH = 0.09  # share of padding below which no more shapes are added


@dataclass(frozen=True)
class EncodedPairs:
    """Pair i is source_ids[source_offsets[i]:source_offsets[i + 1]] and the same of the target."""

    source_ids: Integer[np.ndarray, "source_tokens"]
    source_offsets: Integer[np.ndarray, "pairs_1"]
    target_ids: Integer[np.ndarray, "target_tokens"]
    target_offsets: Integer[np.ndarray, "pairs_1"]

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    @functools.cached_property
    def lengths(self) -> Int[np.ndarray, "pairs 2"]:
        return np.stack([np.diff(self.source_offsets), np.diff(self.target_offsets)], axis=1)

    def take(self, pairs: Indices) -> EncodedPairs:
        """A copy of these pairs, in their order."""
        sides = []
        for number, (ids, offsets) in enumerate(
            ((self.source_ids, self.source_offsets), (self.target_ids, self.target_offsets))
        ):
            sizes = self.lengths[pairs, number]
            sides += [ids[joined_ranges(offsets[pairs], sizes)], np.concatenate([[0], np.cumsum(sizes)])]
        return EncodedPairs(*sides)


def choose_shapes(
    lengths: Int[np.ndarray, "pairs 2"], weights: Float[np.ndarray, "pairs"], longest: int, most: int
) -> list[Shape]:
    """At most `most` shapes that need little padding for these pairs, counted with their weights.

    The first shape holds every pair; each of the others is the one that saves the most computed tokens, given
    those before it. Lengths are multiples of 2 up to 32, of 4 up to 64, of 8 up to 512, and of about an
    eighth of themselves beyond: time and memory grow with the square of the number of different lengths.
    """
    grid = [n for n in range(2, longest, 2) if n % _step_of(n) == 0] + [longest]
    cells = np.searchsorted(grid, lengths)
    counts = np.zeros((len(grid), len(grid)))
    np.add.at(counts, (cells[:, 0], cells[:, 1]), weights)
    occupied = np.argwhere(counts)
    amount, sizes = counts[occupied[:, 0], occupied[:, 1]], np.asarray(grid)[occupied]
    real = float(weights @ lengths.sum(axis=1))
    # [a, b]: shape a holds the pairs of cell b
    holds = np.all(occupied[:, None, :] >= occupied[None, :, :], axis=2)
    cost = sizes.sum(axis=1)
    now = np.full(len(occupied), 2 * longest, np.int64)
    chosen: list[Shape] = [(longest, longest)]
    while len(chosen) < most and float(amount @ now) * (1 - ENOUGH) > real:
        stopping.check()
        saved = np.where(holds, np.maximum(now[None, :] - cost[:, None], 0), 0) @ amount
        best = int(saved.argmax())
        if not saved[best]:
            break
        now = np.where(holds[best], np.minimum(now, cost[best]), now)
        chosen.append((int(sizes[best, 0]), int(sizes[best, 1])))
    return chosen


def _step_of(length: int) -> int:
    """The distance between neighbouring lengths of shapes, near this length."""
    if length <= 512:
        return 2 if length <= 32 else 4 if length <= 64 else 8
    return 1 << (length.bit_length() - 4)


def rows_of_batch(tokens: int, longest: int, multiple: int) -> int:
    """Rows of a batch of at most `tokens` tokens on its longer side of `longest`; at least `multiple`."""
    return max(tokens // longest // multiple, 1) * multiple


def pair_buckets(
    pairs: EncodedPairs,
    shapes: Sequence[Shape],
    tokens: int,
    row_multiple: int,
    stretches: Sequence[Stretch] | None = None,
) -> Buckets:
    """Batches of at most `tokens` tokens on the longer side, their rows a multiple of `row_multiple`."""
    rows = {shape: rows_of_batch(tokens, max(shape), row_multiple) for shape in shapes}
    return Buckets(pairs.lengths, rows, stretches=stretches)


def gather(pairs: EncodedPairs, shape: Shape, indices: Indices) -> dict[str, np.ndarray]:
    """`source` and `target` [rows, length] int32, padded; an empty row is all padding."""
    return {
        "source": gather_rows(pairs.source_ids, pairs.source_offsets, shape[0], indices, PAD),
        "target": gather_rows(pairs.target_ids, pairs.target_offsets, shape[1], indices, PAD),
    }
