"""Conversion between parameters and the paper's tensors: each weight matrix of each layer has its own name.

encoder/layers/attention/query/kernel [layers, ...] holds the tensors encoder/layers/0/attention/query/kernel,
encoder/layers/1/attention/query/kernel and so on. The range, the sparsity or the error of a tensor is that of
one layer's. An array that layers share is [1, ...], so it is one tensor, of layer 0."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params, flatten

Tensors = dict[str, Any]
"""{tensor name: array}."""

_STACKED = re.compile(r"((?:encoder|decoder)/layers)/(?!\d+/)(.*)")
_SLICE = re.compile(r"((?:encoder|decoder)/layers)/(\d+)/(.*)")


def split(params: Params) -> Tensors:
    """Every layer's slice of a stacked array as a tensor, and the other arrays as they are."""
    tensors: Tensors = {}
    for path, x in flatten(params).items():
        names = tensor_names(path, x)
        tensors |= {names[0]: x} if names == [path] else {name: x[i] for i, name in enumerate(names)}
    return tensors


def shapes_of(params: Params) -> Tensors:
    """Shape and dtype of each tensor of parameters, which may be abstract."""
    shapes: Tensors = {}
    for path, x in flatten(params).items():
        names = tensor_names(path, x)
        shape = x.shape if names == [path] else x.shape[1:]
        shapes |= dict.fromkeys(names, jax.ShapeDtypeStruct(shape, x.dtype))
    return shapes


def tensor_names(path: str, x: Any) -> list[str]:
    """The names of the tensors that a parameter holds: of a stacked one, one for each layer, in their
    order."""
    if stacked := _STACKED.fullmatch(path):
        return [f"{stacked[1]}/{layer}/{stacked[2]}" for layer in range(x.shape[0])]
    return [path]


def join(tensors: Tensors) -> Params:
    """The nested dict that `split` was called on; of jax or of numpy arrays."""
    return nested(
        {
            path: tensors[path] if names == [path] else _stack([tensors[name] for name in names])
            for path, names in stacks(tensors).items()
        }
    )


def stacks(names: Iterable[str]) -> dict[str, list[str]]:
    """{path of a parameter: the names of its tensors, in the order of layers}; of one that is not stacked,
    the path itself. UserError where a layer is missing."""
    by_path: dict[str, dict[int, str]] = {}
    for name in names:
        if piece := _SLICE.fullmatch(name):
            by_path.setdefault(f"{piece[1]}/{piece[3]}", {})[int(piece[2])] = name
        else:
            by_path[name] = {0: name}
    for path, layers in by_path.items():
        if sorted(layers) != list(range(len(layers))):
            raise UserError(f"{path} exists only for the layers {sorted(layers)}")
    return {path: [layers[i] for i in range(len(layers))] for path, layers in by_path.items()}


def nested(flat: Mapping[str, Any]) -> Params:
    """The tree of what is given by path."""
    params: Params = {}
    for path, value in flat.items():
        *outer, last = path.split("/")
        node = params
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = value
    return params


def module_class(name: str) -> str:
    """The name without the number of its layer: what the same matrices of all layers share."""
    piece = _SLICE.fullmatch(name)
    return f"{piece[1]}/{piece[3]}" if piece else name


def layer_of(name: str) -> str:
    """The layer of a tensor, such as encoder/layers/3; for tensors outside of layers the first part of the
    name."""
    piece = _SLICE.fullmatch(name)
    return f"{piece[1]}/{piece[2]}" if piece else name.split("/")[0]


def _stack(layers: list[Any]) -> Any:
    return layers[0].__array_namespace__().stack(layers)  # numpy stays numpy, jax stays jax
