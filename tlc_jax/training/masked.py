"""Pruned weights stay exactly zero while the others train.

Momentum and weight decay would revive them, so the update is masked and not only the gradient. The masks are
part of the optimizer's state: they are saved, restored and sharded with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Bool

from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import zero_where_false
from tlc_jax.core.stacked import Tensors, tensor_names
from tlc_jax.core.tree import Params, flatten, map_with_path


class MaskedState(NamedTuple):
    """`masks`: {path of a parameter with pruned weights: boolean array of its shape}."""

    masks: Any
    inner: Any


def masked(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer whose directions are zero where a mask is False. `with_masks` makes its state."""

    def init(params: Any) -> Any:
        raise TypeError("the state of a masked optimizer is made by with_masks")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MaskedState]:
        directions, inner = optimizer.update(only(updates, state.masks), state.inner, params)
        return only(directions, state.masks), MaskedState(state.masks, inner)

    return optax.GradientTransformation(init, update)


def with_masks(inner: Any, params: Params, masks: Tensors) -> MaskedState:
    """The state of the masked optimizer, from that of the plain one; masks are sharded as parameters."""
    placed = {
        path: jax.device_put(mask, flatten(params)[path].sharding)
        for path, mask in parameter_masks(params, masks).items()
    }
    return MaskedState(placed, inner)


def masks_of(optimizer: Any) -> dict[str, Any]:
    """The masks in the state of an optimizer, by paths of parameters; none of one that is not masked."""
    return getattr(optimizer, "masks", {})


def parameter_masks(params: Params, masks: Tensors) -> dict[str, Bool[np.ndarray, "..."]]:
    """Masks of tensors (of one layer) as masks of parameters (of all layers); parameters without any are left
    out. UserError for a mask whose tensor does not exist."""
    flat = flatten(params)
    names = {path: tensor_names(path, x) for path, x in flat.items()}
    if unknown := masks.keys() - {name for tensors in names.values() for name in tensors}:
        raise UserError(f"there are masks of {', '.join(sorted(unknown))}, but no such parameters")
    stacked = {}
    for path, tensors in names.items():
        if masks.keys() & set(tensors):
            shape = flat[path].shape if tensors == [path] else flat[path].shape[1:]
            layers = [np.asarray(masks.get(name, np.ones(shape, bool))) for name in tensors]
            stacked[path] = layers[0] if tensors == [path] else np.stack(layers)
    return stacked


def tensor_masks(masks: Mapping[str, Bool[np.ndarray, "..."]]) -> Tensors:
    """Masks of parameters as masks of tensors; those that prune nothing are left out."""
    layers: Tensors = {}
    for path, mask in masks.items():
        names = tensor_names(path, mask)
        layers |= {path: mask} if names == [path] else dict(zip(names, mask, strict=True))
    return {name: mask for name, mask in layers.items() if not mask.all()}


def only(tree: Any, masks: dict[str, Any]) -> Params:
    """Zeros where a mask is False."""

    return map_with_path(lambda path, x: zero_where_false(x, masks[path]) if path in masks else x, tree)
