"""Weights as networks use them: float arrays, or packed matrices (core/packed.py), which an artifact's model
keeps and which become floats a tile at a time, while they are multiplied. Nothing else in a network asks
which of the two a parameter is.

A packed matrix is whole on every device. Products run over its tiles in a loop: so a program needs memory for
one tile in float32, however its operations are ordered, and no compiler can move the expansion out of the
loop over layers or over the positions of a translation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from tlc_jax.core.axes import constrain
from tlc_jax.core.packed import PackedTensor
from tlc_jax.core.tree import Params

Weight = Any
"""A float array, or a PackedTensor. Of several in a list, those that are multiplied side by side."""
Multiply = Callable[[jax.Array, jax.Array], jax.Array]
_TILE = 1 << 19  # weights: 2 MB in float32
_SMALL = 1 << 16  # weights of a matrix that is one tile


def is_packed(w: Weight) -> bool:
    return isinstance(w, PackedTensor)


def stored(module: nn.Module, declare: Callable[..., Any], name: str, *how: Any, **more: Any) -> Weight:
    """A parameter, or a tree of them, as it is stored. `declare` is the module's `param`, which takes the
    other arguments; it knows nothing of packed parameters."""
    if module.has_variable("params", name):
        value = module.get_variable("params", name)
        if any(map(is_packed, jax.tree.leaves(value, is_leaf=is_packed))):
            return value
    return declare(name, *how, **more)


class Linear(nn.Dense):
    """nn.Dense with a kernel that may be packed; `dot_general` gets it as it is stored."""

    promote_dtype: Any = None

    @nn.nowrap
    def param(self, name: str, *how: Any, **more: Any) -> Weight:
        return stored(self, super().param, name, *how, **more)


def promoted(
    x: jax.Array, kernel: Weight, bias: jax.Array | None, *, dtype: Any
) -> tuple[jax.Array, Weight, jax.Array | None]:
    """flax's promote_dtype, but of a packed kernel."""
    if not is_packed(kernel):
        return tuple(promote_dtype(x, kernel, bias, dtype=dtype))  # type: ignore[return-value]
    x, bias = promote_dtype(x, bias, dtype=dtype)  # type: ignore[assignment]
    return x, kernel, bias


def gathered(w: Weight, *spec: str | None) -> Weight:
    """`constrain` of an array: with each axis split over the named axes of the mesh and no others."""
    return w if is_packed(w) else constrain(w, *spec)


def in_dtype(w: Weight, dtype: Any) -> Weight:
    """An array in another type; what is packed takes that of what it is multiplied with."""
    return w if is_packed(w) else w.astype(dtype)


def expanded(w: Weight) -> jax.Array:
    """All of a matrix that is small."""
    return w.expand() if is_packed(w) else w


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LoopedLayers:
    """Layers with packed matrices, which a loop goes through: written out one after the other, their tiles
    would be a program of hundreds of megabytes."""

    stacked: Params
    count: int = field(metadata={"static": True})
    make: Callable[[Params], Params] = field(metadata={"static": True})

    def at(self, layer: Any) -> Params:
        return self.make(_layer(self.stacked, layer))


Layers = list[Params] | LoopedLayers
"""Of float arrays each layer by itself."""


def layers(stacked: Params, count: int, make: Callable[[Params], Params]) -> Layers:
    """What `make` makes of the parameters of each layer; of floats at once."""
    if any(map(is_packed, jax.tree.leaves(stacked, is_leaf=is_packed))):
        return LoopedLayers(stacked, count, make)
    return [make(_layer(stacked, layer)) for layer in range(count)]


def _layer(stacked: Params, layer: Any) -> Params:
    return jax.tree.map(lambda w: w.of_layer(layer) if is_packed(w) else w[layer], stacked, is_leaf=is_packed)


def of_each(all_layers: Layers, function: Callable[[Params], Any]) -> Any:
    """The result for each layer: a list, or arrays with a leading axis for the layers."""
    if isinstance(all_layers, list):
        return [function(layer) for layer in all_layers]
    return jax.lax.map(lambda layer: function(all_layers.at(layer)), jnp.arange(all_layers.count))


def through(
    all_layers: Layers,
    function: Callable[[Params, Any, jax.Array, Any], tuple[jax.Array, Any]],
    x: Any,
    states: Any,
) -> tuple[Any, Any]:
    """x after all layers, and their states, which are as `of_each` has them. `function` gets a layer, x and
    either its state and None, or all states and the index of its own."""
    if not isinstance(all_layers, list):
        return jax.lax.fori_loop(
            0, all_layers.count, lambda i, carry: function(all_layers.at(i), i, *carry), (x, states)
        )
    after = []
    for layer, state in zip(all_layers, states, strict=True):
        x, state = function(layer, None, x, state)
        after.append(state)
    return x, after


def side_by_side(kernels: Sequence[Weight]) -> Weight:
    """Kernels of the same inputs as one."""
    return list(kernels) if any(map(is_packed, kernels)) else jnp.concatenate(kernels, axis=1)


def rows(table: Weight, ids: jax.Array) -> jax.Array:
    """Rows of a table."""
    return table.rows(ids) if is_packed(table) else table[ids]


def product(x: jax.Array, w: Weight, multiply: Multiply = jnp.matmul) -> jax.Array:
    """`multiply` of x and a matrix, whose free axis becomes the last one of the result: x @ w, or scores of
    the entries of a table."""
    if isinstance(w, list):
        return jnp.concatenate([product(x, each, multiply) for each in w], axis=-1)
    return _by_tiles(x, w, multiply) if is_packed(w) else multiply(x, w)


def _by_tiles(x: jax.Array, w: PackedTensor, multiply: Multiply) -> jax.Array:
    if w.summed * w.free <= _SMALL:
        return multiply(x, w.expand().astype(x.dtype))
    count = max(2, -(-w.summed * w.free // _TILE))
    width = min(w.free, -(-w.free // (8 * count)) * 8)
    count = -(-w.free // width)

    def of_tile(start: Any) -> jax.Array:
        return multiply(x, w.tile(start, width).astype(x.dtype))

    def add(i: Any, y: jax.Array) -> jax.Array:
        start = jnp.minimum(i * width, w.free - width)  # the last tile overlaps: nothing is padded
        return jax.lax.dynamic_update_slice_in_dim(y, of_tile(start), start, axis=-1)

    like = jax.eval_shape(of_tile, 0)
    return jax.lax.fori_loop(0, count, add, jnp.zeros((*like.shape[:-1], w.free), like.dtype))
