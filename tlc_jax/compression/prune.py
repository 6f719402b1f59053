"""Magnitude pruning (paper 4.3): the smallest weights become zero, as boolean masks.

'global' takes the smallest of all tensors together (the paper: "the weights with the smallest magnitude"),
'layer' the same share of every layer, 'tensor' the same share of every tensor. Counts are exact, and among
equal magnitudes the first go first, in the order of the tensors, so that a result never depends on devices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from tlc_jax.compression.threshold import LAST, keys_of, nth_smallest
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import zero_where_false
from tlc_jax.core.stacked import Tensors, layer_of

Scope = Literal["global", "layer", "tensor"]
Mask = Bool[np.ndarray, "..."]
_INFINITE = 0x7F800001  # the key of infinity; keys of NaN are above it
NEARLY_ALL = 0.99  # share of a tensor that is worth a warning


def magnitude_masks(
    tensors: Mapping[str, Any],
    sparsity: float,
    scope: Scope = "global",
    previous: Mapping[str, Mask] | None = None,
    cap: float | None = None,
    names: Iterable[str] | None = None,
) -> dict[str, Mask]:
    """A mask for each tensor (of those in `names`), False at the round(sparsity * size) smallest magnitudes
    of its group.

    What `previous` pruned stays pruned, and counts. With `cap` no tensor loses more than that share, and
    others lose more instead. UserError where that is impossible."""
    if not 0 <= sparsity < 1:
        raise UserError(f"sparsity must be in [0, 1), not {sparsity}")
    earlier, names = previous or {}, list(tensors if names is None else names)
    gone = {name: None if name not in earlier else ~np.asarray(earlier[name]) for name in names}
    kept = dict.fromkeys(names) if cap is None else _kept(tensors, names, cap, gone)
    masks: dict[str, Mask] = {}
    for group in _groups(names, scope):
        count = round(sparsity * sum(tensors[name].size for name in group))
        masks |= _without_smallest(tensors, group, count, gone, kept)
    return {name: masks[name] for name in names}


def apply_masks(tensors: Tensors, masks: Mapping[str, Any]) -> Tensors:
    """The tensors with exact zeros (never -0) where their masks are False."""
    return {name: zero_where_false(x, masks[name]) if name in masks else x for name, x in tensors.items()}


def nearly_gone(masks: Mapping[str, Mask]) -> list[str]:
    """The names of tensors that have lost nearly all weights, which a model may not survive."""
    return [name for name, mask in masks.items() if mask.size and mask.mean() < 1 - NEARLY_ALL]


def _groups(names: list[str], scope: Scope) -> list[list[str]]:
    keys = {"global": lambda name: "", "layer": layer_of, "tensor": lambda name: name}
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(keys[scope](name), []).append(name)
    return list(groups.values())


def _kept(
    tensors: Mapping[str, Any], names: list[str], cap: float, gone: Mapping[str, Mask | None]
) -> dict[str, Mask | None]:
    """Masks of the smallest weights of each tensor that `cap` allows to prune: the others are kept."""
    if not 0 < cap <= 1:
        raise UserError(f"the cap on a tensor's sparsity must be in (0, 1], not {cap}")
    masks: dict[str, Mask | None] = {}
    for name in names:
        most, pruned = math.floor(cap * tensors[name].size), gone[name]
        if pruned is not None and pruned.sum() > most:
            raise UserError(f"{name} has lost more than the cap of {cap:g} already: raise the cap")
        masks |= _without_smallest(tensors, [name], most, gone, {name: None})
    return masks


def _without_smallest(
    tensors: Mapping[str, Any],
    names: list[str],
    count: int,
    gone: Mapping[str, Mask | None],
    kept: Mapping[str, Mask | None],
) -> dict[str, Mask]:
    """Masks without the `count` smallest weights of these tensors together, among which are all that are
    `gone`, even where these are more; where `kept` is True, none are pruned."""
    count = max(count, sum(int(mask.sum()) for mask in (gone[name] for name in names) if mask is not None))
    if count == 0:
        return {name: np.ones(tensors[name].shape, bool) for name in names}

    def keys(name: str) -> Any:  # a tensor at a time: they may be read from files
        return keys_of(np.asarray(tensors[name]), gone[name], kept[name])

    limit, below = nth_smallest(lambda: (key for name in names for key in keys(name)), count)
    if limit == 2**32 - 1:
        free = sum(int(np.sum(~mask)) for mask in (kept[name] for name in names) if mask is not None)
        raise UserError(
            f"{count:,} weights must be pruned, but the cap on a tensor's sparsity leaves {free:,}: raise it"
        )
    room, masks = count - below, {}  # how many of those equal to the limit are still to be pruned
    for name in names:
        magnitudes = np.concatenate([*keys(name), np.zeros(0, np.uint32)])
        if ((magnitudes >= _INFINITE) & (magnitudes < LAST)).any():
            raise UserError(f"{name} has values that are not finite: nothing can be pruned by magnitude")
        mask = magnitudes > limit
        equal = np.flatnonzero(magnitudes == limit)
        mask[equal[room:]] = True
        room -= min(room, equal.size)
        masks[name] = mask.reshape(tensors[name].shape)
    return masks
