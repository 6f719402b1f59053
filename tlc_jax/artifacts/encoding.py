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
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.native import abandonable
from tlc_jax.core.qtensor import QTensor, is_dense, stored_offset
from tlc_jax.core.sizes import packed_bytes

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
    """What `encode` was given; a float tensor has its zeros in place.

    `about` is a TensorEntry (manifest.py) whose numbers agree. ValueError where the parts are not those that
    it tells of: what is there is compared with what is declared before anything is made of it.
    """
    shape, dense, bits = tuple(about["shape"]), about["layout"] == "dense", about["bits"]
    weights, zstd = about["weights"], about.get("zstd", False)
    count = weights if dense else about["nonzeros"]
    quantized = bits <= 8 and "dtype" not in about
    _check_parts(parts, {"codes", "delta", "offset"} if quantized else {"values"}, dense)

    def stream(part: str, dtype: str, size: int) -> np.ndarray:
        return _stream(parts[part], part, np.dtype(dtype), size, zstd)

    mask = None if dense else unpack_mask(stream("mask", "|u1", packed_bytes(weights, 1)), shape)
    if mask is not None and int(mask.sum()) != count:
        raise ValueError(f"its mask keeps {int(mask.sum()):,} weights and not {count:,}")
    if "dtype" in about:
        if not dense or 8 * np.dtype(about["dtype"]).itemsize != bits:
            raise ValueError(
                f"{about['dtype']} in {bits} bits, {about['layout']}, is no layout of such a tensor"
            )
        return stream("values", about["dtype"], weights).reshape(shape)
    if not quantized:
        if bits != 32:
            raise ValueError(f"{bits} is no number of bits")
        return _placed(stream("values", "<f4", count).astype(np.float32, copy=False), mask, shape)
    spec = QuantSpec(
        **{name: about[name] for name in ("bits", "granularity", "range", "zero") if name in about}
    )
    codes = stream("codes", "|u1", count if zstd else packed_bytes(count, bits))
    codes = codes if zstd else unpack_codes(codes, bits, count)
    if zstd and codes.size and int(codes.max()) >> bits:
        raise ValueError(f"a code is larger than {bits} bits hold")
    delta, offset = _ranges(parts, shape, spec)
    return QTensor(_placed(codes, mask, shape), delta, offset, mask, spec)


def _check_parts(parts: Parts, expected: set[str], dense: bool) -> None:
    if parts.keys() != (expected if dense else expected | {"mask"}):
        raise ValueError(f"its parts are {', '.join(sorted(parts)) or 'none'}")


def _stream(part: np.ndarray, name: str, dtype: np.dtype, size: int, zstd: bool) -> np.ndarray:
    """So many values of a type, stored as they are or with zstd."""
    if zstd:
        if part.dtype != np.uint8 or part.ndim != 1:
            raise ValueError(f"its {name} are {part.dtype} {part.shape} and no bytes")
        part = _expanded(part, size * dtype.itemsize, name).view(dtype)
    if part.dtype != dtype or part.shape != (size,):
        raise ValueError(f"its {name} are {part.dtype} {part.shape} and not {dtype} ({size},)")
    return part


def _ranges(parts: Parts, shape: tuple[int, ...], spec: QuantSpec) -> tuple[np.ndarray, np.ndarray]:
    """`delta` and `offset` as a QTensor has them; each of their numbers holds for as many neighbours."""
    delta, offset = parts["delta"], parts["offset"]
    kinds = ("<f4",) if spec.zero == "float" else ("|i1", "<i2", "<i4")
    if delta.dtype != np.float32 or offset.dtype not in [np.dtype(kind) for kind in kinds]:
        raise ValueError(f"its ranges are {delta.dtype} and {offset.dtype}")
    blocks = len(delta.shape) == len(shape) and all(
        own == size or (0 < own <= size and size % own == 0) or (own, size) == (1, 0)
        for own, size in zip(delta.shape, shape, strict=True)
    )
    if not blocks or offset.shape != delta.shape:
        raise ValueError(f"its ranges are {delta.shape} and {offset.shape} of a tensor {shape}")
    if not (np.isfinite(delta).all() and np.isfinite(offset).all()):
        raise ValueError("its ranges are not finite")
    return delta, offset.astype(np.int32) if spec.zero == "nudged" else offset


def _placed(values: np.ndarray, mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Values where the mask is True, zeros elsewhere; without a mask, all of them."""
    if mask is None:
        return values.reshape(shape)
    found = np.zeros(shape, values.dtype)
    found[mask] = values
    return found


def _squeezed(part: np.ndarray) -> UInt8[np.ndarray, "bytes"]:
    codec, content = pyarrow.Codec("zstd", compression_level=_ZSTD_LEVEL), np.ascontiguousarray(part)
    squeezed = abandonable(lambda: codec.compress(content, asbytes=True))  # 2 MB take a second
    return np.frombuffer(squeezed, np.uint8)


def _expanded(part: UInt8[np.ndarray, "bytes"], size: int, name: str) -> UInt8[np.ndarray, "size"]:
    """ValueError where it is no zstd of exactly so many bytes."""
    try:
        found = pyarrow.Codec("zstd").decompress(np.ascontiguousarray(part), size, asbytes=True)
    except (OSError, ValueError) as error:  # pyarrow's are both
        raise ValueError(f"its {name} are no zstd of {size:,} bytes ({error})") from error
    if len(found) != size:
        raise ValueError(f"its {name} are zstd of {len(found):,} bytes and not of {size:,}")
    return np.frombuffer(found, np.uint8)
