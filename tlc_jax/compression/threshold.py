"""The n smallest magnitudes of many tensors, exactly, without a sort and without a copy of all weights.

The bits of a positive float32, read as an integer, are in the order of the floats. Two passes over the
weights find the n-th smallest: the first makes a histogram of upper halves, the second one of the lower
halves of those with the right upper half. Computed on the host, in blocks that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from tlc_jax.core import stopping

_BLOCK = 1 << 16
FIRST, LAST = np.uint32(0), np.uint32(2**32 - 1)  # below and above all keys of magnitudes

Keys = Callable[[], Iterable[UInt32[np.ndarray, "_"]]]
"""Returns the keys of all weights, in pieces, as often as it is called."""


def keys_of(
    x: Float[np.ndarray, "*shape"],
    gone: Bool[np.ndarray, "*shape"] | None = None,
    kept: Bool[np.ndarray, "*shape"] | None = None,
) -> Iterator[UInt32[np.ndarray, "_"]]:
    """For each weight an integer in the order of the magnitudes: FIRST where it is `gone` already, LAST where
    it is `kept` whatever its magnitude. A request to stop is obeyed between the pieces."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32)
    marks = [None if mask is None else np.ascontiguousarray(mask).reshape(-1) for mask in (gone, kept)]
    for start in range(0, flat.size, _BLOCK):
        stopping.check()
        keys = (flat[start : start + _BLOCK] & np.uint32(0x7FFFFFFF)) + np.uint32(1)
        for mask, value in zip(marks, (FIRST, LAST), strict=True):
            if mask is not None:
                keys[mask[start : start + _BLOCK]] = value
        yield keys


def nth_smallest(keys: Keys, n: int) -> tuple[int, int]:
    """(the n-th smallest key, the number of keys below it); n counts from 1."""
    upper, below = _find(_histogram(key >> np.uint32(16) for key in keys()), n)
    same = (key[key >> np.uint32(16) == upper] & np.uint32(0xFFFF) for key in keys())
    lower, inside = _find(_histogram(same), n - below)
    return (upper << 16) + lower, below + inside


def _histogram(halves: Iterable[UInt32[np.ndarray, "_"]]) -> Int[np.ndarray, "65536"]:
    total = np.zeros(1 << 16, np.int64)
    for half in halves:
        total += np.bincount(half, minlength=1 << 16)
    return total


def _find(histogram: Int[np.ndarray, "65536"], n: int) -> tuple[int, int]:
    """(the index of the bin with the n-th, the number of keys in the bins before it)."""
    reached = np.cumsum(histogram)
    index = int(np.searchsorted(reached, n))
    return index, int(reached[index] - histogram[index])
