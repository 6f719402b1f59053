"""Structured magnitude pruning: whole heads and whole feed-forward units are removed, and a smaller model of
the same kind is left.

The magnitude of a unit is the L2 norm of all weights that belong to it alone (paper 4.3 takes that of single
weights): of a head its columns of query, key and value with their biases and its rows of output, of a
feed-forward unit its column of expand with its bias and its row of contract (core/units.py). Every layer
keeps the same number, so that layers stay stacked, and chooses for itself which. Those kept stay in their
order. Among equal magnitudes the first are removed first, and sums are float64 on the host, so that a choice
never depends on devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from tlc_jax.config import TransformerConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params, flatten, map_with_path
from tlc_jax.core.units import UnitKind

Kept = Int[np.ndarray, "layers _"]
"""The units that stay in each layer, in ascending order."""


def largest_units(params: Params, kind: UnitKind, count: int) -> Kept:
    """The `count` units of the largest magnitude in every layer. UserError where there are not so many."""
    if not 1 <= count <= kind.count:
        raise UserError(f"a layer has {kind.count} {kind.name}: keep 1 to {kind.count} of them, not {count}")
    tensors = flatten(params)
    _check_params(tensors, kind)
    total = np.sum([_squares(path, tensors[path], axis) for path, axis in kind.axes.items()], axis=0)
    scores = total.reshape(len(total), kind.count, kind.size).sum(axis=2)  # in the order of the norms
    order = np.argsort(scores, axis=1, kind="stable")
    return np.sort(order[:, kind.count - count :], axis=1)


def keep_units(
    params: Params, config: TransformerConfig, kept: Sequence[tuple[UnitKind, Kept]]
) -> tuple[Params, TransformerConfig]:
    """The model of these units alone, and its configuration.

    A unit keeps its size, and parameters that belong to no unit are as they were. Outputs are those of the
    whole model with zeros for the other units in the parameters that read units (`UnitKind.reader`)."""
    tensors = flatten(params)
    indices = {}
    for kind, units in kept:
        _check_params(tensors, kind)
        _check_kept(kind, units)
        neighbours = units[:, :, None] * kind.size + np.arange(kind.size)
        indices |= {path: (neighbours.reshape(len(units), -1), axis) for path, axis in kind.axes.items()}

    def gather(path: str, x: Any) -> Any:
        return _take(x, *indices[path]) if path in indices else x

    smaller = dataclasses.replace(config, **{kind.field: units.shape[1] for kind, units in kept})
    return map_with_path(gather, params), smaller


def _squares(path: str, x: Shaped[Any, "layers *shape"], axis: int) -> Float[np.ndarray, "layers width"]:
    """The sum of squares at each index of the axis, layer by layer: a float64 copy of all would be large."""
    others = tuple(other - 1 for other in range(1, x.ndim) if other != axis)
    sums = np.stack([np.square(np.asarray(layer, np.float64)).sum(axis=others) for layer in x])
    if not np.isfinite(sums).all():
        raise UserError(f"{path} has values that are not finite: nothing can be pruned by magnitude")
    return sums


def _take(x: Shaped[Any, "layers *shape"], kept: Int[np.ndarray, "layers kept"], axis: int) -> Any:
    others = tuple(other for other in range(1, x.ndim) if other != axis)
    namespace = x.__array_namespace__()  # numpy stays numpy, jax stays jax
    return namespace.take_along_axis(x, namespace.asarray(np.expand_dims(kept, others)), axis=axis)


def _check_kept(kind: UnitKind, units: Kept) -> None:
    ascending = (
        units.size and units.min() >= 0 and units.max() < kind.count and (np.diff(units, axis=1) > 0).all()
    )
    if len(units) != kind.layers or not ascending:
        raise UserError(
            f"the {kind.name} to keep must be ascending numbers from 0 to {kind.count - 1} for each of "
            f"{kind.layers} layers"
        )


def _check_params(tensors: Params, kind: UnitKind) -> None:
    width = kind.count * kind.size
    for path, axis in kind.axes.items():
        if path not in tensors:
            raise UserError(f"there is no {path} among the parameters: give those of the configured model")
        shape = tensors[path].shape
        if (shape[0], shape[axis]) != (kind.layers, width):
            raise UserError(
                f"{path} has the shape {shape}, and the configuration is of {kind.layers} layers "
                f"with {width} along axis {axis}: give the configuration of these parameters"
            )
