"""Magnitude pruning (paper 4.3): the smallest weights of the whole model become zero, as masks.

Prunable is every matrix, the embeddings among them; vectors (biases, normalisation) are not, nor is the head
of a classification: finetuning leaves its weights so small that at 60 % next to nothing of it is left, and
the model says one class of everything (docs/results/study_sst2.md). The count is exact, and among equal
magnitudes the first in the tree's order go first, so that a result never depends on devices. The threshold is
found by bisection over the bits of the magnitudes: no sort, no copy of all weights.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import tensor_axes
from tlc_jax.core.tree import Params, flatten, map_with_path


def prunable(path: str, x: Any) -> bool:
    """Whether the parameter is a matrix (or a stack of matrices), and not of a classification's head."""
    return len(tensor_axes(path, x.ndim)) >= 2 and not path.startswith("classification_head/")


def prunable_count(params: Params) -> int:
    return sum(x.size for path, x in flatten(params).items() if prunable(path, x))


def magnitude_masks(params: Params, sparsity: float, previous: Params | None = None) -> Params:
    """For each prunable parameter a boolean mask, False at the pruned weights; None for the others.

    round(sparsity * prunable weights) are pruned. What `previous` pruned stays pruned: masks are monotone
    over rounds, and the count includes those.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity must be in [0, 1), not {sparsity}")
    chosen = {path: x for path, x in flatten(params).items() if prunable(path, x)}
    earlier = {} if previous is None else flatten(previous)
    kept = _keep_largest(chosen, earlier, round(sparsity * prunable_count(params)))
    return map_with_path(lambda path, x: kept.get(path), params)


@jax.jit
def apply_masks(params: Params, masks: Params) -> Params:
    """Exact zeros (never -0) where a mask is False."""

    def one(path: str, x: Float[Array, "*shape"], mask: Bool[Array, "*shape"] | None) -> jax.Array:
        return x if mask is None else jnp.where(mask, x, jnp.zeros((), x.dtype))

    return map_with_path(one, params, masks)


def _magnitude_bits(
    x: Float[Array, "*shape"], earlier: Bool[Array, "*shape"] | None
) -> UInt32[Array, "*shape"]:
    """Integers in the order of the magnitudes: |x|'s bits + 1, and 0 for what is already pruned."""
    bits = jax.lax.bitcast_convert_type(jnp.abs(x.astype(jnp.float32)), jnp.uint32) + jnp.uint32(1)
    return bits if earlier is None else jnp.where(earlier, bits, jnp.uint32(0))


@jax.jit
def _keep_largest(
    weights: dict[str, Float[Array, "..."]],
    earlier: dict[str, Bool[Array, "..."]],
    count: Int[Array, ""] | int,
) -> dict[str, Bool[Array, "..."]]:
    """Masks that are False at the `count` smallest magnitudes, the first ones among equals."""
    bits = {path: _magnitude_bits(x, earlier.get(path)) for path, x in weights.items()}

    def at_most(limit: jax.Array) -> jax.Array:
        return sum((jnp.sum(x <= limit, dtype=jnp.int32) for x in bits.values()), jnp.int32(0))

    def halve(_: Any, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds  # at_most(high) >= count, and at_most(low - 1) < count
        middle = low + (high - low) // jnp.uint32(2)
        enough = at_most(middle) >= count
        return jnp.where(enough, low, middle + jnp.uint32(1)), jnp.where(enough, middle, high)

    limit, _ = jax.lax.fori_loop(0, 32, halve, (jnp.uint32(0), jnp.uint32(2**32 - 1)))
    below = sum((jnp.sum(x < limit, dtype=jnp.int32) for x in bits.values()), jnp.int32(0))
    room, masks = count - below, {}  # how many of those equal to the limit still go
    for path, x in bits.items():
        equal = x == limit
        rank = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32).reshape(x.shape)
        masks[path] = ~((x < limit) | (equal & (rank <= room)))
        room = room - jnp.minimum(room, jnp.sum(equal, dtype=jnp.int32))
    return masks
