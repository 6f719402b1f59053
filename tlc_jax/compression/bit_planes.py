"""Codes of a matrix as planes of bits, as core/packed.py has them, on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from tlc_jax.core.packed import WIDTHS, PackedTensor


def packed(
    codes: UInt8[np.ndarray, "rows columns"],
    delta: Shaped[np.ndarray, "..."],
    offset: Shaped[np.ndarray, "..."],
    mask: Bool[np.ndarray, "rows columns"] | None,
    bits: int,
    axis: int,
) -> PackedTensor:
    """A packed matrix of codes of at most `bits` bits, along `axis` (-2 or -1). `delta` and `offset` are as
    in a QuantizedTensor. Zeros of a mask become codes of zero where they have one; else the mask stays beside
    the codes, a bit for each weight."""
    if mask is not None and offset.dtype.kind == "i" and offset.min() >= 0 and offset.max() < 2**bits:
        zeros = spread(offset, codes.shape).astype(np.uint8)
        codes, mask = np.where(mask, codes, zeros), None
    planes, low, widths = [], bits, WIDTHS[bits]
    for width in widths:
        low = max(0, low - width)
        planes.append(_plane((codes >> low) & (2**width - 1), width, axis))
    kept = None if mask is None else _plane(mask.astype(np.uint8), 1, axis)
    delta, offset = (_along_other_axis(x, codes.shape, axis) for x in (delta, offset))
    return PackedTensor(tuple(planes), delta, offset, kept, codes.shape[axis], axis, widths)


def _plane(parts: UInt8[np.ndarray, "rows columns"], width: int, axis: int) -> UInt8[np.ndarray, "..."]:
    """Bytes that hold 8 / width parts each."""
    filling = [(0, 0), (0, 0)]
    filling[axis] = (0, -parts.shape[axis] % 8)
    parts = np.pad(parts, filling)
    pieces = np.split(parts, 8 // width, axis=axis)
    plane = pieces[0].copy()
    for number, piece in enumerate(pieces[1:], 1):
        plane |= piece << (number * width)
    return plane


def _along_other_axis(x: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Ranges with one number, or one for each index, along the axis that is not packed."""
    other = -3 - axis
    return x if x.shape[other] in (1, shape[other]) else np.repeat(x, shape[other] // x.shape[other], other)


def spread(x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """One number for each block, such as its range, repeated for each of its weights."""
    for axis, size in enumerate(shape):
        x = np.repeat(x, size // x.shape[axis], axis=axis)
    return x
