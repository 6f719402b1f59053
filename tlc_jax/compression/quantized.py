"""The leaf of a quantized tensor: codes, and the grid that they count on.

It is stored in one of the two layouts of plain.py, whichever is smaller, with packed codes in place of
values, and `delta` and `offset`, one number for each block. If streams are coded (artifacts/encoding.py),
codes are one byte each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NotRequired

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped, UInt8
from pydantic import Field

from tlc_jax.compression.bit_planes import packed
from tlc_jax.compression.packing import pack_codes, scatter, unpack_codes
from tlc_jax.compression.plain import (
    counts,
    kept_weights,
    layout_of,
    mask_stream,
    stored_mask,
    stored_weights,
)
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core import sizes
from tlc_jax.core.leaf import Entry, Leaf, Parts, Stream, is_coded, zero_where_false
from tlc_jax.core.packed import PackedTensor
from tlc_jax.core.schema import TypedDict, record
from tlc_jax.core.sizes import Sizes, packed_bytes

_SPEC = ("bits", "granularity", "range", "zero", "range_dtype")


@record
class QuantizedEntry(TypedDict):
    """A layout of codes, and the QuantSpec that they were made by."""

    layout: Literal["dense", "bitmap"]
    granularity: NotRequired[Annotated[str, Field(max_length=10_000)]]
    range: NotRequired[Annotated[str, Field(max_length=10_000)]]
    zero: NotRequired[Literal["nudged", "float", "symmetric"]]
    range_dtype: NotRequired[Literal["bfloat16"]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QuantizedTensor(Leaf):
    """A pytree of arrays, or of their shapes or shardings.

    With zero 'float' a value is offset + delta * code, and offset is float32 (the paper's q_0); else it is
    delta * (code - offset), and offset is int32 (the code of zero). `codes` has the tensor's shape, uint8,
    each below 2 ** bits. `delta`, float32, and `offset` have as many axes; one of their numbers
    holds for codes.shape[i] / delta.shape[i] neighbours along axis i. `mask`, if there is one, is boolean
    with the tensor's shape: False where the value is an exact zero, whatever its code."""

    codes: Any
    delta: Any
    offset: Any
    mask: Any = None
    spec: QuantSpec = field(default_factory=QuantSpec, metadata={"static": True})

    schema: ClassVar[type] = QuantizedEntry
    uncoded: ClassVar[frozenset[str]] = frozenset({"delta", "offset"})

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.codes.shape)

    def dense(self) -> Float[Array, "*shape"]:
        """Float32 values, and exact zeros where the mask is False."""
        return _dequantize(self.codes, self.delta, self.offset, self.mask)

    def on_grid(self) -> QuantizedTensor:
        return self

    def packed(self, bits: int, axis: int) -> PackedTensor:
        stored = self._stored_ranges()
        delta, offset = (
            x.view(ml_dtypes.bfloat16) if x.dtype == np.uint16 else x
            for x in (stored["delta"], stored["offset"])
        )
        mask = None if self.mask is None else np.asarray(self.mask)
        return packed(np.asarray(self.codes), delta, offset, mask, bits, axis)

    def sizes(self) -> Sizes:
        size, bits = self.codes.size, self.spec.bits
        kept = kept_weights(self.shape, self.mask)
        ranges = sum(part.nbytes for part in self._stored_ranges().values())
        stored = sizes.weight_bytes(size, kept, bits, self._is_dense()) + ranges
        return Sizes(size, kept, 4 * size, sizes.paper_bytes(kept, bits), stored)

    def encode(self, coded: bool) -> tuple[Entry, Parts]:
        layout, chosen, parts = layout_of(self.mask, self._is_dense())
        codes = np.asarray(self.codes).reshape(-1)[chosen]
        parts["codes"] = codes if coded else pack_codes(codes, self.spec.bits)
        parts |= self._stored_ranges()
        about = {"shape": list(self.shape), **vars(self.spec)}
        if self.spec.range_dtype == "float32":
            del about["range_dtype"]
        return {**layout, **about, **counts(self.shape, self.mask)}, parts

    def _is_dense(self) -> bool:
        """Whether a code is stored for every weight: where nothing is pruned, and where that is smaller than
        a bitmap and zero is a code."""
        if self.mask is None:
            return True
        offset, bits = np.asarray(self.offset), self.spec.bits
        if self.spec.zero == "float" or (offset < 0).any() or (offset >= 2**bits).any():
            return False
        return not sizes.is_sparse(self.codes.size, kept_weights(self.shape, self.mask), bits)

    def _stored_ranges(self) -> Parts:
        """Floats in 32 or 16 bits; codes of zero in the smallest type that holds them, mostly one byte, and
        one for all blocks if they are symmetric."""
        delta, offset = np.asarray(self.delta), np.asarray(self.offset)
        if self.spec.zero == "symmetric":
            offset = np.full((1,) * offset.ndim, 1 << (self.spec.bits - 1), np.int32)
        if offset.dtype.kind != "f":
            fits = (t for t in (np.int8, np.int16) if (offset == offset.astype(t)).all())
            offset = offset.astype(next(fits, np.int32))
        half = self.spec.range_dtype == "bfloat16"
        return {name: _halved(x) if half else x for name, x in (("delta", delta), ("offset", offset))}

    @classmethod
    def describes(cls, entry: Entry) -> bool:
        return entry["layout"] in ("dense", "bitmap") and entry["bits"] <= 8 and "dtype" not in entry

    @classmethod
    def streams(cls, entry: Entry) -> dict[str, Stream]:
        count = stored_weights(entry)
        size = count if is_coded(entry) else packed_bytes(count, entry["bits"])
        return mask_stream(entry) | {"codes": Stream("|u1", size)}

    @classmethod
    def decode(cls, entry: Entry, parts: Parts) -> Leaf:
        shape, bits, codes = tuple(entry["shape"]), entry["bits"], parts["codes"]
        mask = stored_mask(entry, parts)
        spec = QuantSpec(**{name: entry[name] for name in _SPEC if name in entry})
        if not is_coded(entry):
            codes = unpack_codes(codes, bits, stored_weights(entry))
        elif codes.size and int(codes.max()) >> bits:
            raise ValueError(f"a code is larger than {bits} bits hold")
        delta, offset = _ranges(parts, shape, spec)
        return cls(scatter(codes, mask, shape), delta, offset, mask, spec)


def _ranges(parts: Parts, shape: tuple[int, ...], spec: QuantSpec) -> tuple[np.ndarray, np.ndarray]:
    """`delta` and `offset` as a QuantizedTensor has them; ValueError where they are no ranges of such a
    tensor."""
    delta, offset = parts["delta"], parts["offset"]
    if spec.range_dtype == "bfloat16":
        if delta.dtype != np.uint16:
            raise ValueError(f"its ranges are {delta.dtype} and no bfloat16")
        delta, offset = _widened(delta), _widened(offset)
    if spec.zero == "symmetric":
        if offset.shape != (1,) * delta.ndim or (offset != 1 << (spec.bits - 1)).any():
            raise ValueError("its code of zero is not the middle one")
        offset = np.broadcast_to(offset, delta.shape)
    kinds = ("<f4",) if spec.zero == "float" else ("|i1", "<i2", "<i4")
    if delta.dtype != np.float32 or offset.dtype not in [np.dtype(kind) for kind in kinds]:
        raise ValueError(f"its ranges are {delta.dtype} and {offset.dtype}")
    divides = len(delta.shape) == len(shape) and all(
        count == size or (0 < count <= size and size % count == 0) or (count, size) == (1, 0)
        for count, size in zip(delta.shape, shape, strict=True)
    )
    if not divides or offset.shape != delta.shape:
        raise ValueError(f"its ranges are {delta.shape} and {offset.shape} of a tensor {shape}")
    if not (np.isfinite(delta).all() and np.isfinite(offset).all()):
        raise ValueError("its ranges are not finite")
    return delta, offset if spec.zero == "float" else offset.astype(np.int32)


def _halved(x: np.ndarray) -> np.ndarray:
    """Floats that have the bits of bfloat16 as these bits; integers as they are."""
    return (x.view(np.uint32) >> 16).astype(np.uint16) if x.dtype == np.float32 else x


def _widened(x: np.ndarray) -> np.ndarray:
    """What `_halved` was called on."""
    return (x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x


def to_blocks(x: Shaped[Array, "*shape"], block: tuple[int, ...]) -> Shaped[Array, "..."]:
    """x with each axis as two: the index of a block, and the position in it. The odd axes are the block's."""
    pairs = ((size // extent, extent) for size, extent in zip(x.shape, block, strict=True))
    return x.reshape([size for pair in pairs for size in pair])


@jax.jit
def _dequantize(
    codes: UInt8[Array, "*shape"],
    delta: Float[Array, "*blocks"],
    offset: Shaped[Array, "*blocks"],
    mask: Bool[Array, "*shape"] | None,
) -> Float[Array, "*shape"]:
    block = tuple(size // count for size, count in zip(codes.shape, delta.shape, strict=True))
    counted = to_blocks(codes, block)
    delta, offset = (to_blocks(each, (1,) * each.ndim) for each in (delta, offset))
    if jnp.issubdtype(offset.dtype, jnp.integer):
        value = delta * (counted.astype(jnp.int32) - offset).astype(jnp.float32)
    else:
        value = offset + delta * counted.astype(jnp.float32)
    value = value.reshape(codes.shape)
    return value if mask is None else zero_where_false(value, mask)
