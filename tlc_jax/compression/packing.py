"""Codes of k bits, and masks, as streams of bytes, on the host.

The stream is little-endian: bit j of code i is bit i * k + j of the stream, and bit b of the stream is bit b
% 8 of byte b // 8. A row padded to 32 bits is one of compressed-tensors' `pack-quantized` (0.18 and newer).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, UInt8

from tlc_jax.core import stopping
from tlc_jax.core.sizes import packed_bytes

_BLOCK = 1 << 20  # codes unpacked to bits at once; a multiple of 8, so that blocks end between bytes


def pack_codes(codes: UInt8[np.ndarray, "n"], bits: int) -> UInt8[np.ndarray, "bytes"]:
    """ceil(n * bits / 8) bytes; the last one is filled with zeros. Codes are below 2 ** bits."""
    packed = np.empty(packed_bytes(len(codes), bits), np.uint8)
    for start in range(0, len(codes), _BLOCK):
        stopping.check()
        block = np.unpackbits(codes[start : start + _BLOCK, None], axis=1, bitorder="little")[:, :bits]
        at, piece = start * bits // 8, np.packbits(block.reshape(-1), bitorder="little")
        packed[at : at + len(piece)] = piece
    return packed


def unpack_codes(packed: UInt8[np.ndarray, "bytes"], bits: int, count: int) -> UInt8[np.ndarray, "n"]:
    """The first `count` codes of a stream."""
    codes = np.empty(count, np.uint8)
    for start in range(0, count, _BLOCK):
        stopping.check()
        size, at = min(_BLOCK, count - start), start * bits // 8
        piece = packed[at : at + packed_bytes(size, bits)]
        stream = np.unpackbits(piece, count=size * bits, bitorder="little").reshape(size, bits)
        codes[start : start + size] = np.packbits(stream, axis=1, bitorder="little")[:, 0]
    return codes


def pack_mask(mask: Bool[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "bytes"]:
    """One bit for each weight, 1 where it is kept."""
    return np.packbits(mask.reshape(-1), bitorder="little")


def unpack_mask(packed: UInt8[np.ndarray, "bytes"], shape: tuple[int, ...]) -> Bool[np.ndarray, "*shape"]:
    """The mask of a tensor of this shape."""
    bits = np.unpackbits(packed, count=math.prod(shape), bitorder="little")
    return bits.astype(bool).reshape(shape)


def scatter(values: np.ndarray, mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape with `values` where the mask is True and zeros elsewhere; without a mask, all of
    them in order."""
    if mask is None:
        return values.reshape(shape)
    array = np.zeros(shape, values.dtype)
    array[mask] = values
    return array
