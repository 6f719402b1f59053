"""From parameters to the paper's tensors and back: each weight matrix of each layer by its own name.

encoder/layers/attention/query/kernel [layers, ...] is the tensors encoder/layers/0/attention/query/kernel,
encoder/layers/1/attention/query/kernel and so on. Whatever is said of a tensor (a range, a sparsity, an
error) is said of one layer's. An array that layers share is [1, ...], so it is one tensor, of layer 0."""

from __future__ import annotations

import re
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params, flatten

Tensors = dict[str, Any]
"""{tensor name: array}, in one order that everything follows."""

_STACKED = re.compile(r"((?:encoder|decoder)/layers)/(?!\d+/)(.*)")
_SLICE = re.compile(r"((?:encoder|decoder)/layers)/(\d+)/(.*)")


def split(params: Params) -> Tensors:
    """Every layer's slice of a stacked array as a tensor; the other arrays as they are."""
    found: Tensors = {}
    for path, x in flatten(params).items():
        names = tensor_names(path, x)
        found |= {names[0]: x} if names == [path] else {name: x[i] for i, name in enumerate(names)}
    return found


def tensor_names(path: str, x: Any) -> list[str]:
    """Of the tensors that a parameter holds: one a layer of a stacked one, in their order."""
    if stacked := _STACKED.fullmatch(path):
        return [f"{stacked[1]}/{layer}/{stacked[2]}" for layer in range(x.shape[0])]
    return [path]


def join(tensors: Tensors) -> Params:
    """The nested dict that `split` made the tensors of; of jax or of numpy arrays."""
    stacks: dict[str, dict[int, Any]] = {}
    for name, x in tensors.items():
        if piece := _SLICE.fullmatch(name):
            stacks.setdefault(f"{piece[1]}/{piece[3]}", {})[int(piece[2])] = x
        else:
            stacks[name] = {-1: x}
    found: Params = {}
    for path, layers in stacks.items():
        *outer, last = path.split("/")
        node = found
        for key in outer:
            node = node.setdefault(key, {})
        node[last] = layers[-1] if -1 in layers else _stack(path, layers)
    return found


def module_class(name: str) -> str:
    """The name without the number of its layer: what the same matrices of all layers share."""
    piece = _SLICE.fullmatch(name)
    return f"{piece[1]}/{piece[3]}" if piece else name


def layer_of(name: str) -> str:
    """encoder/layers/3 of a tensor of that layer; its first part of any other."""
    piece = _SLICE.fullmatch(name)
    return f"{piece[1]}/{piece[2]}" if piece else name.split("/")[0]


def _stack(path: str, layers: dict[int, Any]) -> Any:
    if sorted(layers) != list(range(len(layers))):
        raise UserError(f"{path} is there for the layers {sorted(layers)} only")
    ordered = [layers[i] for i in range(len(layers))]
    own = ordered[0].__array_namespace__()  # numpy stays numpy, jax stays jax
    return own.stack(ordered)
