"""Structured magnitude pruning: whole heads and whole units of the feed-forward layers go, and a smaller
model of the same kind is left.

With a head or a unit go the weights that serve nothing else:

    head    its head_size columns of query, key and value with their biases, its head_size rows of output
    unit    its column of expand with its bias, its row of contract

Its magnitude is the L2 norm of all these (paper 4.3 takes that of single weights). Every layer keeps the same
number, so that layers stay stacked, and chooses on its own which. Those kept stay in their order. Among equal
magnitudes the first go first, and sums are float64 on the host, so that a choice never depends on devices.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params, flatten, map_with_path

_ATTENTION, _FEED_FORWARD = "encoder/layers/attention", "encoder/layers/feed_forward"
# the axis of each parameter along which its heads, or its units, lie; axis 0 is that of the layers
_HEADS = {f"{_ATTENTION}/{name}/kernel": 2 for name in ("query", "key", "value")}
_HEADS |= {f"{_ATTENTION}/{name}/bias": 1 for name in ("query", "key", "value")}
_HEADS |= {f"{_ATTENTION}/output/kernel": 1}
_ROWS = {f"{_FEED_FORWARD}/expand/kernel": 2, f"{_FEED_FORWARD}/expand/bias": 1}
_ROWS |= {f"{_FEED_FORWARD}/contract/kernel": 1}

_HEADS_NAME, _ROWS_NAME = "heads", "feed-forward units"


@dataclass(frozen=True, eq=False)
class Units:
    """What stays of each layer, in ascending order: its heads, and the rows of its contract kernel."""

    heads: Int[np.ndarray, "layers heads"]
    feed_forward: Int[np.ndarray, "layers rows"]


def keep_largest_units(params: Params, config: ModelConfig, heads: int, feed_forward: int) -> Units:
    """In every layer so many `heads` and `feed_forward` units, those of the largest magnitude."""
    for name, asked, there in (
        (_HEADS_NAME, heads, config.heads),
        (_ROWS_NAME, feed_forward, config.feed_forward),
    ):
        if not 1 <= asked <= there:
            raise UserError(f"a layer has {there} {name}: keep 1 to {there} of them, not {asked}")
    tensors = flatten(params)
    _check_params(tensors, config)
    return Units(
        _largest(tensors, _HEADS, config.heads, heads),
        _largest(tensors, _ROWS, config.feed_forward, feed_forward),
    )


def shrink(params: Params, config: ModelConfig, units: Units) -> tuple[Params, ModelConfig]:
    """The model of these units alone, and its configuration: heads keep their size. Parameters that belong to
    no head and no unit are as they were, and outputs are those of `mask_units`."""
    places = _places(params, config, units)

    def gather(path: str, x: Any) -> Any:
        return _take(x, *places[path]) if path in places else x

    smaller = dataclasses.replace(
        config, num_heads=units.heads.shape[1], feed_forward_size=units.feed_forward.shape[1]
    )
    return map_with_path(gather, params), smaller


def mask_units(params: Params, config: ModelConfig, units: Units) -> Params:
    """The model at its full size, in which only these units have a say.

    The others' rows of the output and contract kernels become zero. That is enough: nothing else reads what a
    head or a unit computes."""
    places = _places(params, config, units)
    readers = (f"{_ATTENTION}/output/kernel", f"{_FEED_FORWARD}/contract/kernel")

    def silence(path: str, x: Any) -> Any:
        return _only_rows(x, places[path][0]) if path in readers else x

    return map_with_path(silence, params)


def _largest(
    tensors: Params, axes: dict[str, int], there: int, count: int
) -> Int[np.ndarray, "layers count"]:
    total = np.sum([_squares(path, tensors[path], axis) for path, axis in axes.items()], axis=0)
    scores = total.reshape(len(total), there, -1).sum(axis=2)  # squares are in the order of the norms
    order = np.argsort(scores, axis=1, kind="stable")
    return np.sort(order[:, there - count :], axis=1)


def _squares(path: str, x: Shaped[Any, "layers *shape"], axis: int) -> Float[np.ndarray, "layers width"]:
    """The sum of squares at each place of the axis, layer by layer: float64 copies of all would be large."""
    others = tuple(other - 1 for other in range(1, x.ndim) if other != axis)
    found = np.stack([np.square(np.asarray(layer, np.float64)).sum(axis=others) for layer in x])
    if not np.isfinite(found).all():
        raise UserError(f"{path} has values that are not finite: nothing can be pruned by magnitude")
    return found


def _places(
    params: Params, config: ModelConfig, units: Units
) -> dict[str, tuple[Int[np.ndarray, "layers kept"], int]]:
    """For each parameter that shrinks, what stays of which axis. A head is head_size neighbours."""
    _check_params(flatten(params), config)
    for name, kept, there in (
        (_HEADS_NAME, units.heads, config.heads),
        (_ROWS_NAME, units.feed_forward, config.feed_forward),
    ):
        ascending = kept.size and kept.min() >= 0 and kept.max() < there and (np.diff(kept, axis=1) > 0).all()
        if len(kept) != _stacked(name, config) or not ascending:
            raise UserError(
                f"the {name} to keep must be ascending numbers from 0 to {there - 1} "
                f"for each of {_stacked(name, config)} layers"
            )
    columns = units.heads[:, :, None] * config.head_size + np.arange(config.head_size)
    flat = columns.reshape(len(units.heads), -1)
    heads = {path: (flat, axis) for path, axis in _HEADS.items()}
    return heads | {path: (units.feed_forward, axis) for path, axis in _ROWS.items()}


def _take(x: Shaped[Any, "layers *shape"], kept: Int[np.ndarray, "layers kept"], axis: int) -> Any:
    others = tuple(other for other in range(1, x.ndim) if other != axis)
    own = x.__array_namespace__()  # numpy stays numpy, jax stays jax
    return own.take_along_axis(x, own.asarray(np.expand_dims(kept, others)), axis=axis)


def _only_rows(x: Shaped[Any, "layers rows hidden"], kept: Int[np.ndarray, "layers kept"]) -> Any:
    mask = np.zeros(x.shape[:2], bool)
    np.put_along_axis(mask, kept, True, axis=1)
    own = x.__array_namespace__()
    return own.where(mask[:, :, None], x, own.zeros((), x.dtype))


def _stacked(name: str, config: ModelConfig) -> int:
    """How many layers have heads, or units, of their own."""
    shared = config.shared_layers == "all" or (config.shared_layers == "attention" and name == _HEADS_NAME)
    return 1 if shared else config.num_layers


def _check_params(tensors: Params, config: ModelConfig) -> None:
    widths = (
        (_HEADS, config.heads * config.head_size, _stacked(_HEADS_NAME, config)),
        (_ROWS, config.feed_forward, _stacked(_ROWS_NAME, config)),
    )
    for axes, width, layers in widths:
        for path, axis in axes.items():
            if path not in tensors:
                raise UserError(f"there is no {path} among the parameters: give those of an encoder")
            shape = tensors[path].shape
            if (shape[0], shape[axis]) != (layers, width):
                raise UserError(
                    f"{path} has the shape {shape}, and the configuration is of {layers} layers "
                    f"with {width} along axis {axis}: give the configuration of these parameters"
                )
