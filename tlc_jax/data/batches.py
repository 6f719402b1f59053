"""Which rows a step sees: a pure function of (seed, step), so that resuming costs and saves nothing.

Each epoch visits every row once, in a new order. The order is a permutation that is computed index by index
(a Feistel network over the smallest nearly square rectangle that holds the range, iterated until the result
is in the range), so that no table of the size of the data is needed.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Integer

T = TypeVar("T")
_ROUNDS = 6
_FIXED_ORDER = 1 << 63  # key of the first fixed order, whatever the seed of a run
_AHEAD = 2  # batches that are ready before they are needed


def permute(index: Integer[np.ndarray, "n"], size: int, key: Integer[np.ndarray, "#n"]) -> np.ndarray:
    """The images of `index` in [0, size) under the permutation of [0, size) that `key` (uint64) names."""
    rows = math.isqrt(size - 1) + 1
    radix = (np.uint64(rows), np.uint64(-(-size // rows)))
    value = np.array(index, np.uint64)
    key = np.asarray(key, np.uint64)
    outside = np.ones(value.shape, bool)
    while outside.any():  # cycle walking: the rectangle holds at most sqrt(size) points too many
        pair = list(np.divmod(value[outside], radix[1]))
        keys = key[outside] if len(key) == len(value) else key
        for turn in range(_ROUNDS):
            changed, kept = turn % 2, 1 - turn % 2
            pair[changed] = (pair[changed] + _mix(pair[kept], keys + np.uint64(turn))) % radix[changed]
        value[outside] = pair[0] * radix[1] + pair[1]
        outside = value >= size
    return value.astype(np.int64)


def rows_of_step(
    seed: int, step: int, *, batch_size: int, size: int, rows: slice = slice(None)
) -> Integer[np.ndarray, "batch"]:
    """Indices in [0, size) of the rows that `step` (from 0) trains on; `rows` selects the part of a host."""
    position = (np.arange(batch_size, dtype=np.uint64) + np.uint64(step * batch_size))[rows]
    epoch, inside = position // np.uint64(size), position % np.uint64(size)
    if len(epoch) and epoch[0] == epoch[-1]:
        epoch = epoch[:1]
    return permute(inside, size, _mix(epoch, np.full_like(epoch, seed)))


def in_fixed_order(index: Integer[np.ndarray, "n"], size: int, number: int = 0) -> Integer[np.ndarray, "n"]:
    """The elements of [0, size) at the positions `index` of a random order that is always the same; `number`
    names one of several orders. The first elements of the order are a random subset, which is a part of any
    larger one."""
    return permute(index, size, np.array([_FIXED_ORDER + number], np.uint64))


def _mix(value: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014) for value and key, arrays of uint64."""
    z = (value + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) ^ (key * np.uint64(0xD1B54A32D192ED03))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Prefetcher(Generic[T]):
    """Computes `make(step)` for step = first, first + 1, ... ahead of time in a thread.

    A context manager that gives an iterator; an exception in `make` is raised when its result is taken.
    """

    def __init__(self, make: Callable[[int], T], first: int):
        self._make, self._first = make, first
        self._results: queue.Queue[T | BaseException] = queue.Queue(maxsize=_AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return iter(self._take, object())

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._results.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def _take(self) -> T:
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def _work(self) -> None:
        step = self._first
        while not self._stopped.is_set():
            try:
                result: T | BaseException = self._make(step)
            except BaseException as error:  # raised in the thread that waits for the result
                result = error
                self._stopped.set()
            self._results.put(result)
            step += 1
