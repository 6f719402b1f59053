"""Batches of examples of unlike lengths in a few fixed shapes: a pure function of (seed, step).

An example belongs to the shortest of the fixed lengths that holds it. In each epoch the examples of a
length are put into an order of their own and cut into batches; what is left over goes to the next longer
one, and the last batch of the longest is filled with rows of weight 0. So every example is seen once an
epoch, and an epoch has the same number of batches each time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from tlc_jax.core.vocabulary import PAD
from tlc_jax.data.batches import permute
from tlc_jax.data.labelled.examples import EncodedExamples

LENGTHS = (16, 32, 64, 128, 256, 512)
Places = Integer[np.ndarray, "batch"]


@dataclass(frozen=True)
class Plan:
    """The batches of one pass: the padded length of each, and its examples (-1: an empty row)."""

    lengths: tuple[int, ...]
    places: tuple[Places, ...]


class Buckets:
    """Cuts examples into batches of `batch_size` rows; none is longer than `longest`."""

    def __init__(self, examples: EncodedExamples, batch_size: int, longest: int):
        self._examples, self._batch_size = examples, batch_size
        self._fixed = (*(length for length in LENGTHS if length < longest), longest)
        self._bucket = np.searchsorted(self._fixed, examples.lengths)
        self.batches_per_epoch = len(self.plan(None).lengths)
        self._epoch = functools.lru_cache(maxsize=2)(self.plan)  # the prefetcher may be one epoch ahead

    def plan(self, key: tuple[int, int] | None) -> Plan:
        """The batches of one epoch in the order that `key` (seed, epoch) names; None: the files' order."""
        size, rest = self._batch_size, np.zeros(0, np.int64)
        lengths, places = [], []
        for bucket, length in enumerate(self._fixed):
            own = np.flatnonzero(self._bucket == bucket)
            if key is not None and len(own):
                own = own[permute(np.arange(len(own)), len(own), _key(key, bucket))]
            own = np.concatenate([rest, own])
            whole = len(own) // size * size
            places += list(own[:whole].reshape(-1, size))
            lengths += [length] * (whole // size)
            rest = own[whole:]
        if len(rest):
            # the shortest length that holds them all
            lengths.append(self._fixed[int(self._bucket[rest].max())])
            places.append(np.concatenate([rest, np.full(size - len(rest), -1)]))
        order = np.arange(len(lengths))
        if key is not None:
            order = permute(order, len(order), _key(key, len(self._fixed)))
        return Plan(tuple(lengths[i] for i in order), tuple(places[i] for i in order))

    def of_step(self, seed: int, step: int) -> tuple[int, Places]:
        """(length, examples) of the batch of `step`, counted from 0."""
        epoch, number = divmod(step, self.batches_per_epoch)
        plan = self._epoch((seed, epoch))
        return plan.lengths[number], plan.places[number]

    def shapes(self) -> list[tuple[int, Places]]:
        """One batch of each length that there is: what must be compiled."""
        plan = self.plan(None)
        return [(length, plan.places[plan.lengths.index(length)]) for length in sorted(set(plan.lengths))]

    def padding(self) -> float:
        """Share of the tokens computed in an epoch that pad."""
        computed = sum(self.plan(None).lengths) * self._batch_size
        return 1 - int(self._examples.lengths.sum()) / computed


def gather(examples: EncodedExamples, length: int, places: Places) -> dict[str, np.ndarray]:
    """`tokens` [batch, length] int32, padded; `targets` [batch] int32; `weights` [batch], 0 for -1."""
    tokens = np.full((len(places), length), PAD, np.int32)
    targets = np.zeros(len(places), np.int32)
    for row, place in enumerate(places.tolist()):
        if place >= 0:
            ids = examples.ids[examples.offsets[place] : examples.offsets[place + 1]]
            tokens[row, : len(ids)] = ids
            targets[row] = examples.labels[place]
    return {"tokens": tokens, "targets": targets, "weights": (places >= 0).astype(np.float32)}


def _key(key: tuple[int, int], bucket: int) -> Integer[np.ndarray, "1"]:
    return np.random.SeedSequence([*key, bucket]).generate_state(1, np.uint64)
