"""Packed matrices: codes as bits, which become float32 where they are used, a tile or some rows at a time.

The codes are packed along one axis, the one that products sum over: the inputs of a kernel [in, out], the
columns of a table [entries, hidden]. Along the other axis any stretch of a matrix can be expanded by itself.

A code of k bits is cut into parts of 4, 2 and 1 bits (or of 8), and each part of all codes is a plane of
bytes. Byte j of a plane of w bits holds the parts of the codes j, j + q, j + 2 q, ..., from its lowest bit
on, where q = n w / 8 and n is the length of the axis, filled up to a multiple of 8. So neighbouring codes are
in neighbouring bytes, and processors unpack many at once, without moving any.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

WIDTHS = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (8,), 8: (8,)}
"""The planes of codes by their bits, highest parts first. 7 bits have a byte each: three planes are slower,
and save an eighth."""


def summed_axis(name: str) -> int:
    """The axis of a tensor that products sum over, counted from the end: it is packed."""
    return -2 if name.endswith("kernel") else -1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PackedTensor:
    """A matrix, or one for each layer along a leading axis, as a pytree of arrays.

    A value is delta * (code - offset) if offset holds integers, else offset + delta * code; with a `mask`, a
    plane of one bit, it is an exact zero where the bit is 0 (compression/quantized.py). `planes` and `mask`
    are uint8. `delta` and `offset` have the axes of the matrix: along the packed axis a number of blocks that
    divides it, along the other one number, or one for each index."""

    planes: tuple[Any, ...]
    delta: Any
    offset: Any
    mask: Any = None
    summed: int = field(default=0, metadata={"static": True})
    """Length of the packed axis."""
    axis: int = field(default=-1, metadata={"static": True})
    """-2 or -1: the packed axis."""
    widths: tuple[int, ...] = field(default=(8,), metadata={"static": True})
    """Bits of each plane."""
    layer: Any = None
    """With a number: the matrix of this layer alone, out of arrays that hold all."""

    @property
    def free(self) -> int:
        """Length of the other axis."""
        return self.planes[0].shape[self._free_axis]

    @property
    def shape(self) -> tuple[int, ...]:
        layers = tuple(self.planes[0].shape[:-2]) if self.layer is None else ()
        return (*layers, self.summed, self.free) if self.axis == -2 else (*layers, self.free, self.summed)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def of_layer(self, layer: Any) -> PackedTensor:
        """The matrix of one layer. The arrays stay whole, so that nothing is copied."""
        return dataclasses.replace(self, layer=layer)

    def expand(self) -> Float[Array, "*layers rows columns"]:
        """All values."""
        at = () if self.layer is None else (self.layer,)
        return self._values(lambda x: x[at])

    def tile(self, start: Any, count: int) -> Float[Array, "rows columns"]:
        """The values of `count` indices of the axis that is not packed, from `start` on, which may depend on
        the step of a loop; of a matrix or of one layer."""

        def cut(x: Array) -> Array:
            sizes, begin = list(x.shape), [0] * x.ndim
            if x.shape[self._free_axis] > 1:
                sizes[self._free_axis], begin[self._free_axis] = count, start
            if self.layer is not None:
                sizes[0], begin[0] = 1, self.layer
            # in one operation: a layer that is cut out first could be kept beside the whole, for all layers
            return jax.lax.dynamic_slice(x, begin, sizes).reshape(sizes[-2:])

        return self._values(cut)

    def rows(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape columns"]:
        """Rows of a table."""

        def looked_up(x: Array) -> Array:
            return x[ids] if x.shape[0] > 1 else x.reshape(*(1 for _ in ids.shape), -1)

        assert self.axis == -1
        return self._values(looked_up)

    @property
    def _free_axis(self) -> int:
        return -3 - self.axis

    def _values(self, part: Any) -> Float[Array, "..."]:
        """The values of the same part of all arrays."""
        narrow = 1 if self.mask is not None else min(self.widths)
        folds = 8 // narrow
        codes = None
        for plane, width in zip(self.planes, self.widths, strict=True):
            bits = _unfolded(part(plane), width, narrow, self.axis)
            codes = bits if codes is None else (codes << jnp.uint8(width)) | bits
        assert codes is not None
        delta, offset = (self._spread(part(x), folds) for x in (self.delta, self.offset))
        delta = delta.astype(jnp.float32)
        if jnp.issubdtype(offset.dtype, jnp.integer):
            values = delta * (codes.astype(jnp.int32) - offset.astype(jnp.int32)).astype(jnp.float32)
        else:
            values = offset.astype(jnp.float32) + delta * codes.astype(jnp.float32)
        if self.mask is not None:
            kept = _unfolded(part(self.mask), 1, narrow, self.axis)
            values = jnp.where(kept == 1, values, jnp.zeros((), jnp.float32))
        at = values.ndim + self.axis
        shape = values.shape
        values = values.reshape(*shape[: at - 1], -1, *shape[at + 1 :])
        return jax.lax.slice_in_dim(values, 0, self.summed, axis=at - 1)

    def _spread(self, x: Shaped[Array, "..."], folds: int) -> Shaped[Array, "..."]:
        """Ranges with the packed axis as two, as `_unfolded` has codes."""
        at = x.ndim + self.axis
        before, blocks, after = x.shape[:at], x.shape[at], x.shape[at + 1 :]
        if blocks == 1:
            return x.reshape(*before, 1, 1, *after)
        x = jnp.repeat(x, self.summed // blocks, axis=at)
        filling = [(0, -self.summed % 8 if axis == at else 0) for axis in range(x.ndim)]
        return jnp.pad(x, filling).reshape(*before, folds, -1, *after)


def _unfolded(plane: UInt8[Array, "..."], width: int, narrow: int, axis: int) -> UInt8[Array, "..."]:
    """The parts of a plane of `width` bits. Their axis becomes two, as long as those of a plane of `narrow`
    bits: which part of a byte, and which byte."""
    at = plane.ndim + axis
    before, after = plane.shape[:at], plane.shape[at + 1 :]
    bytes_as = plane.reshape(*before, 1, width // narrow, -1, *after)
    first = np.arange(8 // width, dtype=np.uint8) * np.uint8(width)
    shifts = first.reshape(*(1 for _ in before), -1, 1, 1, *(1 for _ in after))
    parts = jnp.right_shift(bytes_as, jnp.asarray(shifts)) & jnp.uint8(2**width - 1)
    return parts.reshape(*before, 8 // narrow, -1, *after)


def stack(tensors: Sequence[PackedTensor]) -> PackedTensor | None:
    """One tensor of all layers, on the host; None where their values are computed in different ways."""
    first = tensors[0]
    kinds = {(x.widths, x.axis, x.shape, np.asarray(x.offset).dtype.kind) for x in tensors}
    if len(kinds) > 1:
        return None
    masks = [x.mask for x in tensors]
    some = next((mask for mask in masks if mask is not None), None)
    if some is not None:
        masks = [np.full_like(some, 255) if mask is None else mask for mask in masks]
    return dataclasses.replace(
        first,
        planes=tuple(np.stack(planes) for planes in zip(*(x.planes for x in tensors), strict=True)),
        delta=np.stack(_alike([x.delta for x in tensors], first)),
        offset=np.stack(_alike([x.offset for x in tensors], first)),
        mask=None if masks[0] is None else np.stack(masks),
    )


def _alike(ranges: Sequence[np.ndarray], like: PackedTensor) -> list[np.ndarray]:
    """Ranges of one number of blocks, the smallest that all of them divide."""
    for axis, size in enumerate(like.shape):
        blocks = math.lcm(*(x.shape[axis] for x in ranges))
        blocks = blocks if size % blocks == 0 else size
        ranges = [np.repeat(x, blocks // x.shape[axis], axis=axis) for x in ranges]
    return list(ranges)
