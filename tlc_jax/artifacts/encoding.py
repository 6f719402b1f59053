"""One compressed tensor as named arrays of bytes, and back.

A tensor is stored in one of two layouts, whichever is smaller (core/sizes.py):

    dense    codes or values    of every weight: `bits` bits, or a float32 where it is not quantized
    bitmap   mask               one bit a weight, 1 where it is kept
             codes or values    of those that are kept

and beside codes `delta` and `offset`, one number a block. With zstd, `codes` are one byte each and they,
`values` and `mask` are compressed: packed codes would hide from zstd what repeats.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow
from jaxtyping import UInt8

from tlc_jax.artifacts.packing import pack_codes, pack_mask, unpack_codes, unpack_mask
from tlc_jax.core.qtensor import QTensor, is_dense, stored_offset
from tlc_jax.core.quantspec import QuantSpec

Parts = dict[str, np.ndarray]
_ZSTD_LEVEL = 19


def encode(x: QTensor | Any, mask: Any, zstd: bool) -> tuple[dict[str, Any], Parts]:
    """(what it takes to decode, arrays) of a QTensor, or of a float tensor and its mask, if it has one."""
    if isinstance(x, QTensor):
        mask = x.mask
    kept = None if mask is None else np.asarray(mask)
    dense = is_dense(x, kept)
    about: dict[str, Any] = {"layout": "dense" if dense else "bitmap"}
    chosen = slice(None) if dense or kept is None else kept.reshape(-1)
    parts: Parts = {} if dense or kept is None else {"mask": pack_mask(kept)}
    if isinstance(x, QTensor):
        codes = np.asarray(x.codes).reshape(-1)[chosen]
        parts["codes"] = codes if zstd else pack_codes(codes, x.spec.bits)
        about |= {"shape": list(x.codes.shape), **vars(x.spec)}
    elif np.asarray(x).dtype.kind != "f":  # no weights: positions and the like
        about |= {"shape": list(x.shape), "bits": 8 * x.dtype.itemsize, "dtype": x.dtype.str}
        parts["values"] = np.asarray(x).reshape(-1)
    else:
        host = np.asarray(x)
        parts["values"] = host.astype("<f4").reshape(-1)[chosen]
        about |= {"shape": list(host.shape), "bits": 32}
    about["weights"] = math.prod(about["shape"])
    about["nonzeros"] = about["weights"] if kept is None else int(kept.sum())
    if zstd:
        parts = {name: _squeezed(part) for name, part in parts.items()}
        about["zstd"] = True
    if isinstance(x, QTensor):
        parts |= {"delta": np.asarray(x.delta), "offset": stored_offset(x)}
    return about, parts


def decode(about: dict[str, Any], parts: Parts) -> QTensor | np.ndarray:
    """What `encode` was given; a float tensor has its zeros in place."""
    shape, dense, bits = tuple(about["shape"]), about["layout"] == "dense", about["bits"]
    count = about["weights"] if dense else about["nonzeros"]
    zstd, weights = about.get("zstd", False), about["weights"]
    mask = None
    if not dense:
        size = -(-weights // 8)
        mask = unpack_mask(_expanded(parts["mask"], size) if zstd else parts["mask"], shape)
    if "dtype" in about:
        values = parts["values"]
        values = _expanded(values, weights * bits // 8).view(about["dtype"]) if zstd else values
        return values.reshape(shape)
    if bits == 32:
        values = parts["values"]
        if zstd:
            values = _expanded(values, 4 * count).view("<f4")
        return _placed(values.astype(np.float32, copy=False), mask, shape)
    codes = _expanded(parts["codes"], count) if zstd else unpack_codes(parts["codes"], bits, count)
    spec = QuantSpec(**{name: about[name] for name in ("bits", "granularity", "range", "zero")})
    offset = parts["offset"]
    if spec.zero == "nudged":
        offset = offset.astype(np.int32)
    return QTensor(_placed(codes, mask, shape), parts["delta"], offset, mask, spec)


def _placed(values: np.ndarray, mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Values where the mask is True, zeros elsewhere; without a mask, all of them."""
    if mask is None:
        return values.reshape(shape)
    found = np.zeros(shape, values.dtype)
    found[mask] = values
    return found


def _squeezed(part: np.ndarray) -> UInt8[np.ndarray, "bytes"]:
    codec = pyarrow.Codec("zstd", compression_level=_ZSTD_LEVEL)
    return np.frombuffer(codec.compress(np.ascontiguousarray(part), asbytes=True), np.uint8)


def _expanded(part: UInt8[np.ndarray, "bytes"], size: int) -> UInt8[np.ndarray, "size"]:
    found = pyarrow.Codec("zstd").decompress(np.ascontiguousarray(part), size, asbytes=True)
    return np.frombuffer(found, np.uint8)
