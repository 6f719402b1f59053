"""Batches of labelled examples: buckets of one length, each batch of as many rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from tlc_jax.data.bucketing import EMPTY, Buckets, Indices, Shape, gather_rows
from tlc_jax.data.labelled.packed_examples import EncodedExamples

LENGTHS = (16, 32, 64, 128, 256, 512)
_MOST = 12  # lengths: each is compiled
_BATCHES = 16  # of an epoch for each length: in fewer, compiling it would take longer than the padding
_ENOUGH = 0.09  # share of padding below which no more lengths are added


def example_buckets(
    examples: EncodedExamples, batch_size: int, longest: int, lengths: Sequence[int] = LENGTHS
) -> Buckets:
    """Batches of `batch_size` rows, padded to one of `lengths` or to `longest`, which no example exceeds."""
    lengths = (*(length for length in lengths if length < longest), longest)
    rows = {(length,): batch_size for length in lengths}
    return Buckets(examples.lengths[:, None], rows, shrink_last=True)


def fitted_lengths(lengths: Integer[np.ndarray, "examples"], batch_size: int) -> tuple[int, ...]:
    """The lengths to which examples of these are padded with the least padding: as few as leave less than 9 %
    of the tokens padding, at most 12, and one at most for 16 batches. They are even up to 32, multiples of 4
    up to 64 and of 8 beyond, and the last holds every example."""
    most = max(1, min(_MOST, len(lengths) // (_BATCHES * batch_size)))
    grid = np.unique(_rounded_up(np.asarray(lengths)))
    below = np.searchsorted(np.sort(lengths), grid, side="right")  # examples that each length holds
    wanted = float(np.sum(lengths)) / (1 - _ENOUGH)
    # cost[j]: the fewest tokens of what grid[j] holds, with so many lengths, of which it is the last
    cost = (below * grid).astype(float)
    before: list[Integer[np.ndarray, "grid"]] = []
    for _ in range(1, min(most, len(grid))):
        if cost[-1] <= wanted:
            break
        more = (below[None, :] - below[:, None]) * grid[None, :]
        totals = np.where(np.triu(np.ones_like(more, bool), 1), cost[:, None] + more, np.inf)
        best = totals.argmin(axis=0)
        totals = totals[best, np.arange(len(grid))]
        before.append(np.where(totals < cost, best, -1))
        cost = np.minimum(totals, cost)
    chosen, at = [len(grid) - 1], len(grid) - 1
    for step in reversed(before):
        if step[at] >= 0:
            at = int(step[at])
            chosen.append(at)
    return tuple(int(grid[number]) for number in reversed(chosen))


def _rounded_up(lengths: Integer[np.ndarray, "examples"]) -> Integer[np.ndarray, "examples"]:
    step = np.where(lengths <= 32, 2, np.where(lengths <= 64, 4, 8))
    return -(-lengths // step) * step


def gather(examples: EncodedExamples, shape: Shape, indices: Indices) -> dict[str, np.ndarray]:
    """`tokens` [batch, length] int32, padded; `targets` [batch] int32 and `weights` [batch] float32, both 0
    for an empty row. Where token types differ, also `token_types` [batch, length] int32, 0 at pads."""
    real = indices != EMPTY
    targets = np.where(real, examples.labels[indices], 0).astype(np.int32)
    tokens = gather_rows(examples.ids, examples.offsets, shape[0], indices, examples.pad)
    batch = {"tokens": tokens, "targets": targets, "weights": real.astype(np.float32)}
    if examples.types is not None:
        batch["token_types"] = gather_rows(examples.types, examples.offsets, shape[0], indices, 0)
    return batch
