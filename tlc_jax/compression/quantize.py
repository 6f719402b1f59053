"""Uniform quantization to k bits (paper 4.2), as pure functions on tensors.

With [q_0, q_max] the range of a tensor (`ranges.py`; the paper's: its smallest and its largest value):

    delta   = (q_max - q_0) / (2^k - 1)
    code(w) = round((clamp(w, q_0, q_max) - q_0) / delta)
    Q(w)    = delta * code(w) + q_0

Rounding is half to even. Zero is not on this grid. With zero 'nudged' the range is moved by at most half a
step, so that zero is on the grid, at the code z = round(-q_0 / delta), if the range contains it; the ranges
of rows, groups and pruned tensors are widened to contain it:

    code(w) = clamp(round(w / delta) + z, 0, 2^k - 1)
    Q(w)    = delta * (code(w) - z)

With zero 'symmetric' z is 2^(k-1), and the range reaches from -m to m, m the largest magnitude:

    delta   = m / (2^(k-1) - 1/2)

A pruned tensor keeps its mask either way; its range is that of the weights that are kept. With bfloat16,
delta is rounded up and q_0 down before codes are made, so that the grid that is stored covers the range.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from tlc_jax.compression.in_pieces import Codes, in_pieces
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.quantized import QuantizedTensor, to_blocks
from tlc_jax.compression.ranges import find_range, powers_of_two
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.native import abandonable

_MOMENTS = 1 << 20  # weights that are quantized before anybody waits for the end of a thread
_FARTHEST = 2.0**22  # steps from zero; float32 distinguishes no more
_LARGEST = float(np.finfo(np.float32).max) * (1 - 2.0**-20)  # room for rounding
_SMALLEST = float(np.finfo(np.float32).tiny)  # most devices take less for zero


def quantize_tensor(
    name: str, x: Float[Any, "*shape"], spec: QuantSpec | None, mask: Bool[Any, "*shape"] | None = None
) -> Leaf:
    """The tensor `name` as codes; as floats at 32 bits. The name says along which axis its rows run.

    A block of one value comes back exactly. Scalars and empty tensors stay as they are. Compiled once for
    each shape, whatever the bits. Large numpy arrays are quantized in pieces, and a request to stop is obeyed
    at any moment; arrays may also be traced."""
    if spec is None or spec.bits == 32 or x.ndim == 0 or x.size == 0:
        return FloatTensor(x, mask)
    block = block_shape(name, x.shape, spec)
    # rows, groups and pruned tensors are exported to tools that have no masks: zero has to be a code
    pruned = False if mask is None else ~mask.all()
    with_zero = jnp.asarray(spec.zero != "float" and (block != x.shape or pruned))

    def quantized(x: Any, mask: Any) -> Codes:
        half = spec.range_dtype == "bfloat16"
        return _quantize(x, mask, 2**spec.bits - 1, block, spec.range, spec.zero, with_zero, half)

    if isinstance(x, np.ndarray) and x.size > _MOMENTS:
        codes, delta, offset = abandonable(
            lambda: jax.block_until_ready(in_pieces(quantized, x, mask, block))
        )
    else:
        codes, delta, offset = quantized(x, mask)
    return QuantizedTensor(codes, delta, offset, mask, spec)


def block_shape(name: str, shape: tuple[int, ...], spec: QuantSpec) -> tuple[int, ...]:
    """The extent of the block that shares one range. Rows of our kernels [in, out] run along the first axis;
    those of everything else, as of torch's matrices, along the last (a row has all axes but the first)."""
    if spec.granularity == "tensor" or len(shape) < 2:
        return shape
    along = row_axis(name, shape)
    if (size := spec.group_size) is None:
        return (shape[0], 1) if along == 0 else (1, *shape[1:])
    if shape[along] % size:
        raise UserError(f"{spec.granularity} does not divide rows of {shape[along]} in {name}: take row")
    return tuple(size if axis == along else 1 for axis in range(len(shape)))


def row_axis(name: str, shape: tuple[int, ...]) -> int:
    """The axis of a matrix along which the weights of one output, or of one embedding, are neighbours."""
    return 0 if name.endswith("kernel") and len(shape) == 2 else len(shape) - 1


def row_length(name: str, shape: tuple[int, ...]) -> int:
    """The number of neighbours that groups divide; 0 for vectors and scalars."""
    return 0 if len(shape) < 2 else shape[row_axis(name, shape)]


@functools.partial(jax.jit, static_argnames=("block", "how", "zero", "half"))
def _quantize(
    x: Float[Array, "*shape"],
    mask: Bool[Array, "*shape"] | None,
    steps: Int[Array, ""] | int,
    block: tuple[int, ...],
    how: str,
    zero: str,
    with_zero: Bool[Array, ""],
    half: bool,
) -> tuple[UInt8[Array, "*shape"], Float[Array, "*blocks"], Shaped[Array, "*blocks"]]:
    values = to_blocks(x.astype(jnp.float32), block)
    kept = None if mask is None else to_blocks(mask, block)
    highest = jnp.asarray(steps).astype(jnp.float32)
    low, high = find_range(values, kept, how, highest, zero, with_zero)
    values = values if kept is None else jnp.where(kept, values, 0.0)
    delta, offset = _grid(low, high, highest, zero, half)
    low = offset if zero == "float" else low
    if zero == "float":
        codes = jnp.round(_divide(jnp.clip(values, low, high) - low, delta))
    else:
        codes = jnp.clip(jnp.round(_divide(values, delta)) + offset, 0.0, highest)
    blocks = tuple(size // extent for size, extent in zip(x.shape, block, strict=True))
    return codes.astype(jnp.uint8).reshape(x.shape), delta.reshape(blocks), offset.reshape(blocks)


def _grid(
    low: Float[Array, "*pairs"],
    high: Float[Array, "*pairs"],
    highest: Float[Array, ""],
    zero: str,
    half: bool,
) -> tuple[Float[Array, "*pairs"], Shaped[Array, "*pairs"]]:
    """(delta, offset) of any ranges in float32. Steps are normal numbers, and a nudged grid stays within
    float32; with `zero` 'float' a range that is wider than float32 has an infinite step. With `half`, what is
    stored as a float has the 16 bits of bfloat16."""
    if zero == "symmetric":
        high = jnp.maximum(jnp.abs(low), jnp.abs(high))
        low = -high
    elif zero == "float" and half:
        low = _bfloat16(low, up=False)
    scale, back = powers_of_two(jnp.maximum(jnp.abs(low), jnp.abs(high)))
    first, last, limit = low * scale, high * scale, _LARGEST * scale
    delta = _divide(last - first, highest)
    if zero == "float":
        step = jnp.where(last - first > limit, jnp.inf, jnp.maximum(delta * back, _SMALLEST))
        step = _bfloat16(step, up=True) if half else step
        return jnp.where(delta > 0, step, 1.0), low
    delta = jnp.maximum(delta, jnp.maximum(jnp.abs(first), jnp.abs(last)) / _FARTHEST)
    offset = jnp.round(-_divide(first, jnp.where(delta > 0, delta, 1.0)))
    step = jnp.minimum(delta, limit / jnp.maximum(highest - offset, offset)) * back
    delta = jnp.where(delta > 0, jnp.maximum(step, _SMALLEST), 1.0)
    if half:
        delta = _bfloat16(delta, up=True)
    if zero == "symmetric":
        return delta, jnp.full(delta.shape, (highest + 1) / 2).astype(jnp.int32)
    return delta, jnp.round(-_divide(low, delta)).astype(jnp.int32)


def _bfloat16(x: Float[Array, "*shape"], up: bool) -> Float[Array, "*shape"]:
    """The next number above or below that has the bits of bfloat16, as float32; of a magnitude above 2^100,
    the next one towards zero, so that no multiple of it overflows."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    away = ((x > 0) == up) & (jnp.abs(x) < 2.0**100)
    bits = jnp.where(away, bits + jnp.uint32(0xFFFF), bits) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _divide(x: Float[Array, "*shape"], by: Float[Array, "..."]) -> Float[Array, "*shape"]:
    """x / by, correctly rounded. XLA replaces division by a broadcast number with multiplication by its
    inverse, which rounds values halfway between two codes differently."""
    return x / jax.lax.optimization_barrier(jnp.broadcast_to(by, x.shape))
