"""Packs sentence pairs several to a row, as Tensor2Tensor does, so that one shape of batches holds them all.

Rows are made once, when data are prepared: a batch is then some rows, in an order that depends on (seed,
step) alone. A row holds pairs from all over its source; each epoch puts other rows together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Integer

from tlc_jax.core import stopping
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.bucketing import EMPTY, Indices, Shape, joined_ranges
from tlc_jax.data.pairs.pair_batches import EncodedPairs


@dataclass(frozen=True)
class PackedRows:
    """Row r holds the pairs pairs[offsets[r]:offsets[r + 1]]."""

    pairs: Integer[np.ndarray, "pairs"]
    offsets: Integer[np.ndarray, "rows_1"]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, pairs: Int[np.ndarray, "pairs 2"]) -> Int[np.ndarray, "rows 2"]:
        """Tokens of each row on both sides, of those of each pair."""
        ends = np.cumsum(np.concatenate([np.zeros((1, 2), np.int64), pairs[self.pairs]]), axis=0)
        return np.diff(ends[self.offsets], axis=0)

    def pairs_of(self, rows: Indices) -> Indices:
        """The pairs that these rows hold."""
        start = self.offsets[rows]
        return self.pairs[joined_ranges(start, self.offsets[rows + 1] - start)]

    def check(self, pairs: Int[np.ndarray, "pairs 2"], shape: Sequence[int]) -> None:
        """ValueError unless the rows hold each pair once and have at most the tokens of the shape."""
        cuts = self.offsets[0] == 0 and self.offsets[-1] == len(pairs) and (np.diff(self.offsets) > 0).all()
        each = self.pairs.min() >= 0 and self.pairs.max() < len(pairs)
        if not cuts or not each or (np.bincount(self.pairs) != 1).any():
            raise ValueError(f"the rows of training pairs do not hold each of the {len(pairs):,} pairs once")
        if (self.lengths(pairs) > np.asarray(shape)).any():
            raise ValueError(f"a row of training pairs has more tokens than row_shape {list(shape)}")


def row_shape(ratio: float, longest: int, length: int) -> Shape:
    """Tokens of both sides of a row, `length` on the longer one; `ratio` is that of all source tokens to all
    target tokens. Either side holds a sentence of `longest` tokens."""
    shorter = round(length * min(ratio, 1 / ratio) / 8) * 8
    shorter = min(max(shorter, -(-longest // 8) * 8), length)
    return (shorter, length) if ratio <= 1 else (length, shorter)


def pack_rows(lengths: Int[np.ndarray, "pairs 2"], shape: Shape) -> PackedRows:
    """Rows of the given shape that hold each pair once.

    Each row begins with the largest pair that is left and takes, as long as one fits, the pair that fills it
    best on its emptier side. Pairs of equal lengths are interchangeable, so a row is made as often as there
    are such pairs: the work grows with the number of different lengths, not with that of pairs.
    """
    if not len(lengths):
        return PackedRows(np.zeros(0, np.int64), np.zeros(1, np.int64))
    sizes, number, counts = np.unique(lengths, axis=0, return_inverse=True, return_counts=True)
    shares = (sizes / np.asarray(shape)).astype(np.float32)
    members = np.split(np.argsort(number.reshape(-1), kind="stable"), np.cumsum(counts)[:-1])
    left = counts.copy()
    order = np.argsort(-shares.max(axis=1), kind="stable")
    rows: list[Integer[np.ndarray, "rows pairs_a_row"]] = []
    while len(order):
        stopping.check()
        chosen = _fill(order, shares, left)
        kinds, times = np.unique(chosen, return_counts=True)
        count = int((left[kinds] // times).min())
        parts = []
        for kind, each in zip(kinds, times, strict=True):
            end = int(left[kind])
            parts.append(members[kind][end - count * each : end].reshape(count, each))
            left[kind] -= count * each
        rows.append(np.concatenate(parts, axis=1))
        if not left[kinds].all():
            order = order[left[order] > 0]
    offsets = np.cumsum([0, *np.repeat([x.shape[1] for x in rows], [len(x) for x in rows])])
    return PackedRows(np.concatenate([x.reshape(-1) for x in rows]), offsets)


def _fill(order: Indices, shares: Float[np.ndarray, "kinds 2"], left: Int[np.ndarray, "kinds"]) -> list[int]:
    """The kinds of pairs of one row that begins with the first of `order`; `left` counts pairs by kind."""
    shares, left = shares[order], left[order]
    room, chosen = 1 - shares[0], [int(order[0])]
    left[0] -= 1
    while True:
        after = room - shares
        emptier = np.where((after.min(axis=1) >= -1e-6) & (left > 0), after.max(axis=1), np.inf)
        best = int(emptier.argmin())
        if emptier[best] == np.inf:
            return chosen
        room = after[best]
        left[best] -= 1
        chosen.append(int(order[best]))


def gather_packed(
    pairs: EncodedPairs, packed: PackedRows, shape: Shape, rows: Indices
) -> dict[str, np.ndarray]:
    """`source`, `target` and their `segments` [rows, length] int32: ids of the pairs of each row, one after
    the other, and the pair that each belongs to (1, 2, ...; 0 at pads). An EMPTY row is all padding."""
    begin = packed.offsets[rows]
    count = np.where(rows == EMPTY, 0, packed.offsets[rows + 1] - begin)
    row = np.repeat(np.arange(len(rows)), count)
    inside = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    chosen = packed.pairs[begin[row] + inside]
    batch = {}
    for side, length, ids, offsets in (
        ("source", shape[0], pairs.source_ids, pairs.source_offsets),
        ("target", shape[1], pairs.target_ids, pairs.target_offsets),
    ):
        start, size = offsets[chosen], offsets[chosen + 1] - offsets[chosen]
        before = np.cumsum([0, *size])  # tokens of all earlier pairs
        column = before[:-1] - before[np.cumsum(count) - count][row]
        step = np.arange(before[-1]) - np.repeat(before[:-1], size)
        at = (np.repeat(row, size), np.repeat(column, size) + step)
        tokens = np.full((len(rows), length), PAD, np.int32)
        segments = np.zeros((len(rows), length), np.int32)
        tokens[at] = ids[np.repeat(start, size) + step]
        segments[at] = np.repeat(inside + 1, size)
        batch |= {side: tokens, f"{side}_segments": segments}
    return batch
