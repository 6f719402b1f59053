"""Uniform quantization to k bits (paper 4.2), one range per tensor, as pure functions on parameters.

With [q_0, q_max] the smallest and the largest value of a tensor:

    delta   = (q_max - q_0) / (2^k - 1)
    code(w) = round((clamp(w, q_0, q_max) - q_0) / delta)
    Q(w)    = delta * code(w) + q_0

Rounding is half to even. Every parameter is quantized, embeddings, biases and normalisation too (paper:
"every parameter, including the embedding matrix"). Zero is not on this grid: a pruned tensor keeps its
mask, its range is taken over all of its values, zeros among them.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.core.errors import UserError
from tlc_jax.core.qtensor import QTensor
from tlc_jax.core.stacked import tensor_axes
from tlc_jax.core.tree import Params, map_with_path

BITS = (*range(1, 9), 32)


def check_bits(bits: int) -> None:
    if bits not in BITS:
        raise UserError(f"bits must be one of {', '.join(map(str, BITS))}, not {bits}")


def quantize_tensor(
    x: Float[Array, "*shape"],
    steps: Int[Array, ""] | int,
    axes: tuple[int, ...],
    mask: Bool[Array, "*shape"] | None = None,
) -> QTensor:
    """`x` as codes from 0 to `steps` = 2^k - 1 <= 255; one range over `axes`, for each index of the others.

    A tensor of one value has delta 1 and code 0: it comes back exactly.
    """
    x = x.astype(jnp.float32)
    if mask is not None:
        x = jnp.where(mask, x, 0.0)
    low = jnp.min(x, axis=axes, keepdims=True)
    high = jnp.max(x, axis=axes, keepdims=True)
    delta = _divide(high - low, jnp.float32(steps))
    delta = jnp.where(delta > 0, delta, 1.0)
    codes = jnp.round(_divide(jnp.clip(x, low, high) - low, delta)).astype(jnp.uint8)
    return QTensor(codes, delta, low, mask)


def _divide(x: Float[Array, "*shape"], by: Float[Array, "..."]) -> Float[Array, "*shape"]:
    """x / by, correctly rounded. XLA takes the quotient by a broadcast number for a product with its
    inverse, which sends values halfway between two codes to the other one."""
    return x / jax.lax.optimization_barrier(jnp.broadcast_to(by, x.shape))


def dequantize_tensor(q: QTensor) -> Float[Array, "*shape"]:
    """offset + delta * code in float32, and exact zeros where the mask says so."""
    value = q.offset + q.delta * q.codes.astype(jnp.float32)
    return value if q.mask is None else jnp.where(q.mask, value, 0.0)


def quantize(params: Params, bits: int, masks: Params | None = None) -> Any:
    """A tree like `params` of QTensors, or `params` itself at 32 bits.

    `masks` holds for each parameter a boolean array, or None where nothing is pruned.
    """
    check_bits(bits)
    return params if bits == 32 else _quantize(params, 2**bits - 1, masks)


@jax.jit
def _quantize(params: Params, steps: Int[Array, ""] | int, masks: Params | None) -> Any:
    """Compiled once for all numbers of bits."""

    def one(path: str, x: jax.Array, mask: jax.Array | None = None) -> QTensor:
        return quantize_tensor(x, steps, tensor_axes(path, x.ndim), mask)

    return map_with_path(one, params, *(() if masks is None else (masks,)))


@jax.jit
def dequantize(quantized: Any) -> Params:
    """Float32 parameters of a tree that `quantize` made."""
    return jax.tree.map(
        lambda q: dequantize_tensor(q) if isinstance(q, QTensor) else q,
        quantized,
        is_leaf=lambda q: isinstance(q, QTensor),
    )
