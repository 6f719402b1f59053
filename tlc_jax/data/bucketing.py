"""Batches of examples of unequal lengths in a few fixed shapes: a pure function of (seed, step).

A shape is one length, or one for each side of a pair. An example belongs to the smallest shape that holds
it. In each epoch the examples of a shape are put into a new order and cut into batches; those left over join
the next larger shape that holds them, and the last batch of all is filled with empty rows. So long and short
examples are not mixed, and no example is dropped.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer

from tlc_jax.data.batches import in_fixed_order, permute, rows_of_step

Shape = tuple[int, ...]
Indices = Integer[np.ndarray, "_"]
Plan = list[tuple[Shape, Indices]]
"""The batches of one pass over the data: the shape of each, and the indices of its examples."""
EMPTY = -1  # the index of an empty row


@dataclass(frozen=True)
class Stretch:
    """Neighbouring examples of one source, and how many of them each epoch takes. With `used`, all epochs
    take theirs from the same random subset of so many examples."""

    start: int
    size: int
    per_epoch: int
    used: int | None = None

    def examples(self, order: Indices, number: int) -> Indices:
        """The examples at these positions of a fixed order of stretch `number`, or of its subset."""
        return self.start + (order if self.used is None else in_fixed_order(order, self.size, number))


class Buckets:
    """Cuts examples into batches.

    `rows` maps each shape to the rows of its batches; the largest shape must hold every example. With
    `stretches`, an epoch takes `per_epoch` examples of each, from an endless stream of passes over it;
    otherwise it takes every example once. With `shrink_last`, for which all shapes need equal rows, the batch
    with empty rows has the smallest shape that holds its examples.
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, "examples sides"],
        rows: Mapping[Shape, int],
        *,
        stretches: Sequence[Stretch] | None = None,
        shrink_last: bool = False,
    ):
        self._lengths, self._stretches, self._shrink_last = lengths, stretches, shrink_last
        self.shapes = sorted(rows, key=lambda shape: (sum(shape), shape))
        self.rows = [rows[shape] for shape in self.shapes]
        self._parent = [_next_holder(self.shapes, i) for i in range(len(self.shapes))]
        self._bucket = _smallest(lengths, self.shapes)
        # by seed, the number of the first batch of each epoch, as far as they are known
        self._starts: dict[int, list[int]] = defaultdict(lambda: [0])
        self.epoch = functools.lru_cache(maxsize=2)(self._plan_of_epoch)  # a prefetcher may be one ahead

    def of_step(self, seed: int, step: int) -> tuple[Shape, Indices]:
        """Shape and examples of the batch of `step`, counted from 0."""
        epoch = self.epoch_of(seed, step)
        return self.epoch(seed, epoch)[step - self._starts[seed][epoch]]

    def epoch_of(self, seed: int, step: int) -> int:
        """The epoch that a step is in; with stretches, epochs differ by a few batches."""
        starts = self._starts[seed]
        while starts[-1] <= step:
            starts.append(starts[-1] + self._count(self._chosen(seed, len(starts) - 1)))
        return int(np.searchsorted(starts, step, side="right")) - 1

    def _count(self, chosen: Indices) -> int:
        """How many batches `plan` makes of the examples; a late step needs those of all earlier epochs."""
        members, batches = np.bincount(self._bucket[chosen], minlength=len(self.shapes)), 0
        for number, rows in enumerate(self.rows):
            parent = self._parent[number]
            batches += members[number] // rows if parent is not None else -(-members[number] // rows)
            if parent is not None:
                members[parent] += members[number] % rows
        return int(batches)

    def _plan_of_epoch(self, seed: int, epoch: int) -> Plan:
        return self.plan(self._chosen(seed, epoch), (seed, epoch))

    def plan(self, chosen: Indices | None = None, key: tuple[int, int] | None = None) -> Plan:
        """The batches of the given examples, or of all. `key` names the order of the examples of a shape and
        of the batches; without it they keep the order they are given in, shape by shape."""
        chosen = np.arange(len(self._lengths)) if chosen is None else chosen
        bucket_of = self._bucket[chosen]
        left_over: dict[int, list[Indices]] = defaultdict(list)
        batches: Plan = []
        for number, rows in enumerate(self.rows):
            members = _shuffled(chosen[bucket_of == number], key, number)
            members = np.concatenate([*left_over[number], members]).astype(np.int64)
            whole = len(members) // rows * rows
            batches += [(self.shapes[number], indices) for indices in members[:whole].reshape(-1, rows)]
            rest, parent = members[whole:], self._parent[number]
            if len(rest) and parent is not None:
                left_over[parent].append(rest)
            elif len(rest):
                last = int(self._bucket[rest].max()) if self._shrink_last else number
                batches.append((self.shapes[last], np.concatenate([rest, np.full(rows - len(rest), EMPTY)])))
        return [batches[i] for i in _shuffled(np.arange(len(batches)), key, len(self.rows))]

    def samples(self) -> Plan:
        """One batch of each shape that an epoch over all examples has: what must be compiled."""
        return sorted(dict(reversed(self.plan())).items())

    def _chosen(self, seed: int, epoch: int) -> Indices:
        if self._stretches is None:
            return np.arange(len(self._lengths))
        parts = []
        for number, stretch in enumerate(self._stretches):
            rows, size = stretch.per_epoch, stretch.used or stretch.size
            order = rows_of_step((seed + 1) * 1009 + number, epoch, batch_size=rows, size=size)
            parts.append(stretch.examples(order, number))
        return np.concatenate(parts)

    def used(self) -> Indices:
        """The examples that epochs are made of."""
        if self._stretches is None:
            return np.arange(len(self._lengths))
        parts = [
            stretch.examples(np.arange(stretch.used or stretch.size), number)
            for number, stretch in enumerate(self._stretches)
        ]
        return np.concatenate(parts)

    def tokens(self, plan: Plan) -> Int[np.ndarray, "sides"]:
        """Tokens of a plan without padding, side by side."""
        indices = np.concatenate([indices for _, indices in plan])
        return self._lengths[indices[indices != EMPTY]].sum(axis=0)

    def padding(self, seed: int = 0) -> float:
        """Share of the tokens computed in the first epoch that are padding."""
        plan = self.epoch(seed, 0)
        computed = sum(len(indices) * sum(shape) for shape, indices in plan)
        return 1 - int(self.tokens(plan).sum()) / computed


def joined_ranges(starts: Indices, sizes: Indices) -> Indices:
    """start, start + 1, ... of each range, one range after the other."""
    before = np.cumsum(sizes) - sizes
    return np.arange(int(np.sum(sizes))) + np.repeat(starts - before, sizes)


def gather_rows(
    ids: Integer[np.ndarray, "tokens"],
    offsets: Integer[np.ndarray, "examples_1"],
    length: int,
    indices: Indices,
    pad: int,
) -> Int32[np.ndarray, "rows length"]:
    """Rows of ids padded to `length`; row r is ids[offsets[i]:offsets[i + 1]] with i = indices[r]."""
    start, end = offsets[indices], offsets[indices + 1]
    position = start[:, None] + np.arange(length)
    real: Bool[np.ndarray, "rows length"] = (position < end[:, None]) & (indices != EMPTY)[:, None]
    rows = np.full(position.shape, pad, np.int32)
    rows[real] = ids[position[real]]
    return rows


def _smallest(
    lengths: Int[np.ndarray, "examples sides"], shapes: Sequence[Shape]
) -> Integer[np.ndarray, "examples"]:
    """The number of the first shape, so the smallest, that holds each example."""
    numbers = np.full(len(lengths), len(shapes) - 1, np.min_scalar_type(len(shapes)))
    for number in reversed(range(len(shapes) - 1)):
        numbers[(lengths <= np.asarray(shapes[number])).all(axis=1)] = number
    return numbers


def _next_holder(shapes: Sequence[Shape], number: int) -> int | None:
    """The next larger shape that holds whatever this one holds; None for the largest."""
    small = shapes[number]
    for other in range(number + 1, len(shapes)):
        if all(length <= limit for length, limit in zip(small, shapes[other], strict=True)):
            return other
    return None


def _shuffled(values: Indices, key: tuple[int, int] | None, number: int) -> Indices:
    """The values in the order that the key names for shape `number`; as they are without a key."""
    if key is None or not len(values):
        return values
    state = np.random.SeedSequence([*key, number]).generate_state(1, np.uint64)
    return values[permute(np.arange(len(values)), len(values), state)]
