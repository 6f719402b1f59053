"""Pruned weights stay exactly zero while the others train.

Momentum and weight decay would bring them back (the update is masked, not only the gradient), and a mask that
is not part of the state would be lost with the process: it is saved, restored and sharded as optimizer state.
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
    """`masks` holds, for each parameter that has pruned weights, a boolean array of its shape by its path."""

    masks: Any
    inner: Any


def masked(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer for parameters whose masked weights are zero: its directions are zero there, always. Its
    state is a MaskedState that `with_masks` made."""

    def init(params: Any) -> Any:
        raise TypeError("the state of a masked optimizer is made by with_masks")

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MaskedState]:
        directions, inner = optimizer.update(_only(updates, state.masks), state.inner, params)
        return _only(directions, state.masks), MaskedState(state.masks, inner)

    return optax.GradientTransformation(init, update)


def with_masks(inner: Any, params: Params, masks: Tensors) -> MaskedState:
    """The state of the masked optimizer, of that of the plain one; masks lie where their
    parameters do."""
    placed = {
        path: jax.device_put(mask, flatten(params)[path].sharding)
        for path, mask in parameter_masks(params, masks).items()
    }
    return MaskedState(placed, inner)


def parameter_masks(params: Params, masks: Tensors) -> dict[str, Bool[np.ndarray, "..."]]:
    """Masks of tensors (one layer's) as masks of parameters (all layers'), for those that have any."""
    flat = flatten(params)
    names = {path: tensor_names(path, x) for path, x in flat.items()}
    if unknown := masks.keys() - {name for own in names.values() for name in own}:
        raise UserError(f"there are masks of {', '.join(sorted(unknown))}, but no such parameters")
    found = {}
    for path, own in names.items():
        if masks.keys() & set(own):
            shape = flat[path].shape if own == [path] else flat[path].shape[1:]
            each = [np.asarray(masks.get(name, np.ones(shape, bool))) for name in own]
            found[path] = np.stack(each) if own != [path] else each[0]
    return found


def tensor_masks(masks: Mapping[str, Bool[np.ndarray, "..."]]) -> Tensors:
    """Masks of parameters as masks of tensors; those that prune nothing are left out."""
    found: Tensors = {}
    for path, mask in masks.items():
        names = tensor_names(path, mask)
        found |= {names[0]: mask} if names == [path] else dict(zip(names, mask, strict=True))
    return {name: mask for name, mask in found.items() if not mask.all()}


def _only(tree: Any, masks: dict[str, Any]) -> Params:
    """Zeros where a mask is False."""

    def one(path: str, x: jax.Array) -> jax.Array:
        return zero_where_false(x, masks[path]) if path in masks else x

    return map_with_path(one, tree)
