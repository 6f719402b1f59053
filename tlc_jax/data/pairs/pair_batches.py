"""Batches of sentence pairs, each of about as many tokens, in a few fixed shapes: pure in (seed, step).

A shape is (source length, target length); a pair belongs to the smallest that holds it, and a batch has as
many rows as `tokens` allow for the longer of both. In each epoch every source gives its share of pairs, from
an endless stream of passes over it, each in an order of its own; the pairs of a shape are put into an order
and cut into batches, and what is left over goes to a shape that holds it too. So a batch never mixes short
and long pairs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from tlc_jax.core import stopping
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.batches import permute, rows_of_step

Shape = tuple[int, int]
Places = Integer[np.ndarray, "rows"]
ENOUGH = 0.09  # share of pads at which no more shapes are made


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


@dataclass(frozen=True)
class Stretch:
    """Neighbouring pairs that are one source; so many of them are in each epoch."""

    start: int
    size: int
    per_epoch: int


@dataclass(frozen=True)
class PairPlan:
    """The batches of one epoch: which shape each has, and its pairs (-1: an empty row)."""

    shapes: tuple[int, ...]
    places: tuple[np.ndarray, ...]


def choose_shapes(
    lengths: Int[np.ndarray, "pairs 2"], weights: Float[np.ndarray, "pairs"], longest: int, most: int
) -> list[Shape]:
    """At most so many shapes that pad these pairs little. The first holds every pair, and each that follows
    is the one that saves most computed tokens beside those before it. Lengths are multiples of 2 up to 32, of
    4 up to 64, of 8 up to 512, and of an eighth of themselves beyond: the work grows with their square."""
    grid = [n for n in range(2, longest, 2) if n % _step_of(n) == 0] + [longest]
    cells = np.searchsorted(grid, lengths)
    counts = np.zeros((len(grid), len(grid)))
    np.add.at(counts, (cells[:, 0], cells[:, 1]), weights)
    there = np.argwhere(counts)
    amount, sizes = counts[there[:, 0], there[:, 1]], np.asarray(grid)[there]
    real = float(weights @ lengths.sum(axis=1))
    holds = np.all(
        there[:, None, :] >= there[None, :, :], axis=2
    )  # [a, b]: shape a holds the pairs of cell b
    cost = sizes.sum(axis=1)
    now = np.full(len(there), 2 * longest, np.int64)
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
    """Lengths like this one that shapes may have are so far apart."""
    if length <= 512:
        return 2 if length <= 32 else 4 if length <= 64 else 8
    return 1 << (length.bit_length() - 4)


def rows_of_batch(tokens: int, longest: int, multiple: int) -> int:
    """How many rows with a longer side of `longest` make a batch of at most `tokens`."""
    return max(tokens // longest // multiple, 1) * multiple


class PairBatches:
    """Cuts pairs into batches of at most `tokens` tokens on the longer side, rows being a multiple of
    `row_multiple`."""

    def __init__(
        self,
        pairs: EncodedPairs,
        stretches: Sequence[Stretch],
        shapes: Sequence[Shape],
        tokens: int,
        row_multiple: int,
    ):
        shapes = sorted(shapes, key=lambda own: (sum(own), own))
        self._pairs, self._stretches, self.shapes = pairs, stretches, shapes
        self.rows = [rows_of_batch(tokens, max(own), row_multiple) for own in shapes]
        fits = np.array([[_inside(small, large) for large in shapes] for small in shapes])
        # what is left over of a shape goes to the next that holds it: they are in the order of their size
        self._parent = [
            next((j for j in range(i + 1, len(shapes)) if fits[i, j]), i) for i in range(len(shapes))
        ]
        self._shape_of = _smallest(pairs.lengths, shapes)
        self._starts = [0]  # number of the first batch of each epoch, as far as they are known
        self._epoch = functools.lru_cache(maxsize=2)(self.plan_of_epoch)

    def plan_of_epoch(self, seed: int, epoch: int) -> PairPlan:
        """The batches of one epoch, in its order."""
        return self.plan(self._chosen(seed, epoch), (seed, epoch))

    def plan(self, chosen: Places, key: tuple[int, int] | None) -> PairPlan:
        """Batches of the given pairs; `key` names their order, None keeps the given one."""
        own_shape = self._shape_of[chosen]
        rest: dict[int, list[np.ndarray]] = {}
        shapes: list[int] = []
        places: list[Places] = []
        for number, rows in enumerate(self.rows):
            own = chosen[own_shape == number]
            if key is not None and len(own):
                own = own[permute(np.arange(len(own)), len(own), _key(key, number))]
            own = np.concatenate([*rest.pop(number, []), own]).astype(np.int64)
            whole = len(own) // rows * rows
            places += list(own[:whole].reshape(-1, rows))
            shapes += [number] * (whole // rows)
            if whole == len(own):
                continue
            if self._parent[number] != number:
                rest.setdefault(self._parent[number], []).append(own[whole:])
            else:  # the largest shape: the last batch has empty rows
                shapes.append(number)
                places.append(np.concatenate([own[whole:], np.full(rows - len(own) + whole, -1)]))
        order = np.arange(len(places))
        if key is not None and len(order):
            order = permute(order, len(order), _key(key, len(self.rows)))
        return PairPlan(tuple(shapes[i] for i in order), tuple(places[i] for i in order))

    def of_step(self, seed: int, step: int) -> tuple[Shape, Places]:
        """(shape, pairs) of the batch of `step`, counted from 0."""
        epoch = self.epoch_of(seed, step)
        plan, number = self._epoch(seed, epoch), step - self._starts[epoch]
        return self.shapes[plan.shapes[number]], plan.places[number]

    def epoch_of(self, seed: int, step: int) -> int:
        """The epoch that a step is in; with shares, epochs differ by a few batches."""
        while self._starts[-1] <= step:
            epoch = len(self._starts) - 1
            self._starts.append(self._starts[-1] + self._count(self._chosen(seed, epoch)))
        return int(np.searchsorted(self._starts, step, side="right")) - 1

    def padding(self, seed: int = 0) -> float:
        """Share of the computed tokens of an epoch that pad."""
        plan = self._epoch(seed, 0)
        computed = sum(self.rows[number] * sum(self.shapes[number]) for number in plan.shapes)
        return 1 - self.tokens(plan)[0] / computed

    def tokens(self, plan: PairPlan) -> tuple[int, int]:
        """(all tokens, those of targets) of a plan, pads not counted."""
        places = np.concatenate(plan.places)
        lengths = self._pairs.lengths[places[places >= 0]]
        return int(lengths.sum()), int(lengths[:, 1].sum())

    def _chosen(self, seed: int, epoch: int) -> Places:
        return np.concatenate(
            [
                own.start
                + rows_of_step((seed + 1) * 1009 + i, epoch, batch_size=own.per_epoch, size=own.size)
                for i, own in enumerate(self._stretches)
            ]
        )

    def _count(self, chosen: Places) -> int:
        left = np.bincount(self._shape_of[chosen], minlength=len(self.shapes))
        batches = 0
        for number, rows in enumerate(self.rows):
            whole, rest = divmod(int(left[number]), rows)
            batches += whole
            if rest and self._parent[number] != number:
                left[self._parent[number]] += rest
            elif rest:
                batches += 1
        return batches


def gather(pairs: EncodedPairs, shape: Shape, places: Places) -> dict[str, np.ndarray]:
    """`source` and `target` [rows, length] int32, padded; an empty row (-1) is all pads."""
    sides = (
        (pairs.source_ids, pairs.source_offsets, shape[0]),
        (pairs.target_ids, pairs.target_offsets, shape[1]),
    )
    source, target = (_rows(ids, offsets, length, places) for ids, offsets, length in sides)
    return {"source": source, "target": target}


def _rows(
    ids: np.ndarray, offsets: np.ndarray, length: int, places: Places
) -> Int[np.ndarray, "rows length"]:
    start, end = offsets[places], offsets[places + 1]
    spot = start[:, None] + np.arange(length)
    real: Bool[np.ndarray, "rows length"] = (spot < end[:, None]) & (places >= 0)[:, None]
    found = np.full(spot.shape, PAD, np.int32)
    found[real] = ids[spot[real]]
    return found


def _smallest(lengths: Int[np.ndarray, "pairs 2"], shapes: Sequence[Shape]) -> Integer[np.ndarray, "pairs"]:
    """The number of the first shape, so the smallest, that holds each pair."""
    found = np.full(len(lengths), len(shapes) - 1, np.int16)
    for number in reversed(range(len(shapes) - 1)):
        found[(lengths <= np.asarray(shapes[number])).all(axis=1)] = number
    return found


def _inside(small: Shape, large: Shape) -> bool:
    return small[0] <= large[0] and small[1] <= large[1]


def _key(key: tuple[int, int], number: int) -> Integer[np.ndarray, "1"]:
    return np.random.SeedSequence([*key, number]).generate_state(1, np.uint64)
