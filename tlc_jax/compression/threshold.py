"""The n smallest magnitudes of many tensors, exactly, without a sort and without a copy of all weights.

The bits of a positive float32, read as an integer, are in the order of the floats. Two looks at each weight
find the n-th smallest: the first counts upper halves (a histogram), the second counts lower halves of those
whose upper half it is. On the host, in blocks that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt32

from tlc_jax.core import stopping

_BLOCK = 1 << 16
FIRST, LAST = np.uint32(0), np.uint32(2**32 - 1)  # below and above all keys of magnitudes

Keys = Callable[[], Iterable[UInt32[np.ndarray, "_"]]]
"""Gives the keys of all weights, in pieces, as often as it is called."""


def keys_of(
    x: Float[np.ndarray, "*shape"],
    gone: Bool[np.ndarray, "*shape"] | None = None,
    held: Bool[np.ndarray, "*shape"] | None = None,
) -> Iterator[UInt32[np.ndarray, "_"]]:
    """Of each weight an integer in the order of the magnitudes: FIRST where it is `gone` already, LAST where
    it is `held` whatever its magnitude. A request to stop is obeyed between the pieces."""
    flat = np.ascontiguousarray(x, np.float32).reshape(-1).view(np.uint32)
    marks = [None if mask is None else np.ascontiguousarray(mask).reshape(-1) for mask in (gone, held)]
    for start in range(0, flat.size, _BLOCK):
        stopping.check()
        keys = (flat[start : start + _BLOCK] & np.uint32(0x7FFFFFFF)) + np.uint32(1)
        for mask, value in zip(marks, (FIRST, LAST), strict=True):
            if mask is not None:
                keys[mask[start : start + _BLOCK]] = value
        yield keys


def nth_smallest(keys: Keys, n: int) -> tuple[int, int]:
    """(the n-th smallest key, how many are below it); n counts from 1."""
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
    """(the bin that holds the n-th, how many are in the bins before it)."""
    reached = np.cumsum(histogram)
    place = int(np.searchsorted(reached, n))
    return place, int(reached[place] - histogram[place])
