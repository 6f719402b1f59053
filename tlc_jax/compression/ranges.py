"""The range [q_0, q_max] that a quantizer's codes cover, on which the quality of 4 bits depends most.

The paper says "the quantization range". The one from the smallest to the largest value wastes codes on a few
outliers: at 4 bits its error is 1.4 times that of the least-squares range for the encoders of
docs/results/errors.md, and five times for MiniLM alone."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

_SAMPLE = 1 << 18  # weights that a range's error is measured on, of a larger block
_SHRINKS = 40  # ranges that are tried around the middle, down to a fortieth of the whole
_ENDS = 24  # then for each end alone, twice


def find_range(
    x: Float[Array, "*pairs"],
    kept: Bool[Array, "*pairs"] | None,
    how: str,
    steps: Float[Array, ""],
    zero: str,
    with_zero: Bool[Array, ""],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(q_0, q_max) of each block, over the weights that are kept; the odd axes of `x` are the blocks'.

    `steps` is 2^k - 1; `zero` is the kind of grid that the range is for, `with_zero` whether it must contain
    zero. A block of which nothing is kept has the range [0, 0]."""
    shape = tuple(1 if axis % 2 else size for axis, size in enumerate(x.shape))
    values, there = _by_block(x), None if kept is None else _by_block(kept)
    if how in ("minmax", "mse"):
        low, high = _smallest_and_largest(values, there)
    else:
        low, high = _between(values, there, round(100 * float(how.removeprefix("percentile:"))))
    low, high = _widened(low, high, with_zero)
    if zero == "symmetric":
        high = jnp.maximum(jnp.abs(low), jnp.abs(high))
        low = -high
    if how == "mse":
        scale, back = powers_of_two(jnp.maximum(jnp.abs(low), jnp.abs(high)))
        some, there = _by_block(_thinned(x)), None if kept is None else _by_block(_thinned(kept))
        low, high = _least_squares(some * scale, there, low * scale, high * scale, steps, zero, with_zero)
        low, high = low * back, high * back
    return low.reshape(shape), high.reshape(shape)


def _widened(
    low: Float[Array, "..."], high: Float[Array, "..."], with_zero: Bool[Array, ""]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """A range that contains zero, if it must."""
    widened = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
    return jnp.where(with_zero, widened[0], low), jnp.where(with_zero, widened[1], high)


def _by_block(x: Shaped[Array, "*pairs"]) -> Shaped[Array, "blocks size"]:
    """The values of each block as neighbours: XLA's CPU sums along another axis 40 times more slowly."""
    blocks, inside = range(0, x.ndim, 2), range(1, x.ndim, 2)
    size = math.prod(x.shape[axis] for axis in inside)
    return x.transpose(*blocks, *inside).reshape(-1, size)


def powers_of_two(largest: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """(s, 1 / s) with 1/2 <= s * largest < 8 for every normal float32. Computing with numbers times s neither
    overflows nor underflows, and is otherwise exact, since s is a power of two."""
    exponent = jax.lax.bitcast_convert_type(largest, jnp.uint32) >> 23  # plus 127
    exponent = jnp.clip(exponent, 2, 252)
    bits = (254 - exponent) << 23, exponent << 23
    return tuple(jax.lax.bitcast_convert_type(pattern, jnp.float32) for pattern in bits)  # type: ignore[return-value]


def _thinned(x: Shaped[Array, "*pairs"]) -> Shaped[Array, "*pairs"]:
    """At most about `_SAMPLE` evenly spaced values of each block, along its longest axis."""
    inside = range(1, x.ndim, 2)
    longest = max(inside, key=lambda axis: x.shape[axis])
    size = math.prod(x.shape[axis] for axis in inside)
    every = min(-(-size // _SAMPLE), x.shape[longest])
    return jax.lax.slice_in_dim(x, 0, x.shape[longest], stride=every, axis=longest)


def _smallest_and_largest(
    x: Float[Array, "blocks size"], kept: Bool[Array, "blocks size"] | None
) -> tuple[Float[Array, "blocks 1"], Float[Array, "blocks 1"]]:
    if kept is None:
        return jnp.min(x, axis=1, keepdims=True), jnp.max(x, axis=1, keepdims=True)
    low = jnp.min(jnp.where(kept, x, jnp.inf), axis=1, keepdims=True)
    high = jnp.max(jnp.where(kept, x, -jnp.inf), axis=1, keepdims=True)
    some = low <= high
    return jnp.where(some, low, 0.0), jnp.where(some, high, 0.0)


def _least_squares(
    x: Float[Array, "blocks size"],
    kept: Bool[Array, "blocks size"] | None,
    low: Float[Array, "blocks 1"],
    high: Float[Array, "blocks 1"],
    steps: Float[Array, ""],
    zero: str,
    with_zero: Bool[Array, ""],
) -> tuple[Float[Array, "blocks 1"], Float[Array, "blocks 1"]]:
    """The range of the least squared error among those tried: the whole one shrunk towards its mean, then
    each end moved alone, first in coarse and then in fine steps."""
    weight = jnp.ones_like(x) if kept is None else kept.astype(jnp.float32)
    middle = jnp.sum(x * weight, 1, keepdims=True) / jnp.maximum(jnp.sum(weight, 1, keepdims=True), 1)
    middle = jnp.zeros_like(middle) if zero == "symmetric" else middle

    def error(low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.sum(weight * (_rounded(x, low, high, steps, zero) - x) ** 2, 1, keepdims=True)

    def better(best: tuple[jax.Array, ...], low: jax.Array, high: jax.Array) -> tuple[jax.Array, ...]:
        low, high = _widened(low, high, with_zero)
        tried = low, high, error(low, high)
        less = tried[2] < best[2]
        return tuple(jnp.where(less, new, old) for new, old in zip(tried, best, strict=True))

    def shrunk(i: Any, best: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        share = 1.0 - i / _SHRINKS
        return better(best, middle + share * (low - middle), middle + share * (high - middle))

    def moved(i: Any, best: tuple[jax.Array, ...], width: float, start: tuple[jax.Array, ...]) -> tuple:
        by = 1.0 + width * ((i // 2) / (_ENDS - 1) - 0.5)  # even i: the lower end, odd i: the upper
        first = jnp.maximum(low, middle + by * (start[0] - middle))
        last = jnp.minimum(high, middle + by * (start[1] - middle))
        lower = i % 2 == 0
        return better(best, jnp.where(lower, first, best[0]), jnp.where(lower, best[1], last))

    best = jax.lax.fori_loop(0, _SHRINKS, shrunk, (low, high, error(low, high)))
    if zero == "symmetric":  # both ends move together, in finer steps around the best
        start = best[1]

        def wider(i: Any, best: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            end = jnp.minimum(start + (i / _ENDS - 1) * high / _SHRINKS, high)
            return better(best, -end, end)

        best = jax.lax.fori_loop(0, 2 * _ENDS, wider, best)
        return best[0], best[1]
    for width in (1.0, 0.3):
        start = best
        best = jax.lax.fori_loop(0, 2 * _ENDS, lambda i, best, w=width, s=start: moved(i, best, w, s), best)
    return best[0], best[1]


def _rounded(x: jax.Array, low: jax.Array, high: jax.Array, steps: jax.Array, zero: str) -> jax.Array:
    """The value that x is quantized to, but for ties."""
    delta = jnp.maximum((high - low) / steps, 1e-30)
    if zero == "float":
        return low + delta * jnp.round((jnp.clip(x, low, high) - low) / delta)
    if zero == "symmetric":
        return delta * jnp.clip(jnp.round(x / delta), -(steps + 1) / 2, (steps - 1) / 2)
    first = jnp.round(low / delta)
    return delta * jnp.clip(jnp.round(x / delta), first, first + steps)


def _between(
    x: Float[Array, "blocks size"], kept: Bool[Array, "blocks size"] | None, share: int
) -> tuple[Float[Array, "blocks 1"], Float[Array, "blocks 1"]]:
    """The values that `share` / 10,000 of a block lie below, and above: found by bisection over the bits,
    since a sort takes XLA many times longer."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    keys = jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))  # integers in the order of the floats
    there = jnp.ones_like(x, bool) if kept is None else kept
    count = jnp.sum(there, 1, keepdims=True, dtype=jnp.int32)
    outside = count // 10_000 * share + count % 10_000 * share // 10_000  # in int32, exactly
    wanted = outside + 1, count - outside

    def halve(_: Any, ends: tuple[tuple[jax.Array, jax.Array], ...]) -> Any:
        halves = []
        for (low, high), n in zip(ends, wanted, strict=True):
            middle = low + (high - low) // jnp.uint32(2)
            enough = jnp.sum(there & (keys <= middle), 1, keepdims=True, dtype=jnp.int32) >= n
            halves.append((jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)))
        return tuple(halves)

    whole = jnp.zeros(count.shape, jnp.uint32), jnp.full(count.shape, 2**32 - 1, jnp.uint32)
    ends = jax.lax.fori_loop(0, 32, halve, (whole, whole))
    bits = (jnp.where(key >> 31, key ^ jnp.uint32(1 << 31), ~key) for key, _ in ends)
    low, high = (jax.lax.bitcast_convert_type(pattern, jnp.float32) for pattern in bits)
    return jnp.where(count > 0, low, 0.0), jnp.where(count > 0, high, 0.0)
