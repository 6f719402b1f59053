"""How parameters lie on the mesh: ordered rules over their paths.

A kernel's hidden axis is split over `fsdp`, the axis of its heads or units over `tensor`; an embedding's
hidden axis over both, and never its vocabulary (50,265 is odd, and nothing is padded). What is small lies
whole on every device: biases, normalisation, positions, heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params, flatten, match_rules

_IN = r"((cross_)?attention/(query|key|value)|feed_forward/expand)"
_OUT = r"((cross_)?attention/output|feed_forward/contract)"
_LAYERS = [
    (r".*/(scale|bias)", P()),
    (rf"(encoder|decoder)/layers/{_IN}/kernel", P(None, "fsdp", "tensor")),
    (rf"(encoder|decoder)/layers/{_OUT}/kernel", P(None, "tensor", "fsdp")),
]
_EMBEDDING = P(None, ("fsdp", "tensor"))
ENCODER_RULES = [
    *_LAYERS,
    (r"encoder/token_embedding", _EMBEDDING),
    (r"encoder/position_embedding", P()),
    (r"(mlm_head|classification_head)/.*kernel", P()),
]
ENCODER_DECODER_RULES = [*_LAYERS, (r"shared/token_embedding", _EMBEDDING)]


def param_shardings(mesh: Mesh, params: Params) -> Any:
    """A tree of NamedSharding like `params`, which may be abstract. UserError where an axis of a parameter
    does not divide by the devices that it is split over."""
    specs = match_rules(ENCODER_DECODER_RULES if "shared" in params else ENCODER_RULES, params)
    for path, x in flatten(params).items():
        _check_divides(mesh, path, x.shape, flatten(specs)[path])
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def like_params(mesh: Mesh, shardings: Any, tree: Any) -> Any:
    """Shardings of a tree (the optimizer's state) that holds, at any depth, arrays by the paths of
    parameters: those lie as their parameters do, everything else whole on every device."""
    known = flatten(shardings)

    def one(path: Sequence[Any], _: Any) -> NamedSharding:
        keys = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        return known.get("/".join(keys), NamedSharding(mesh, P()))

    return jax.tree_util.tree_map_with_path(one, tree)


def _check_divides(mesh: Mesh, path: str, shape: tuple[int, ...], spec: P) -> None:
    for size, axes in zip(shape, spec, strict=False):
        names = (axes,) if isinstance(axes, str) else axes or ()
        parts = math.prod(mesh.shape[name] for name in names)
        if size % parts:
            product = " x ".join(f"mesh.{name} {mesh.shape[name]}" for name in names)
            raise UserError(
                f"{path} {list(shape)}: its axis of {size} does not split over {parts} devices ({product}): "
                "change the mesh, or the model"
            )


@dataclass(frozen=True)
class Placement:
    """One line of the table that shows how parameters lie."""

    path: str
    shape: tuple[int, ...]
    spec: str
    bytes_per_device: int


def placements(mesh: Mesh, params: Params) -> list[Placement]:
    """How each parameter lies, in the tree's order."""
    shardings = flatten(param_shardings(mesh, params))
    return [
        Placement(
            path,
            x.shape,
            " ".join(_named(part) for part in shardings[path].spec) or "whole",
            math.prod(shardings[path].shard_shape(x.shape)) * x.dtype.itemsize,
        )
        for path, x in flatten(params).items()
    ]


def _named(part: str | tuple[str, ...] | None) -> str:
    return "-" if part is None else part if isinstance(part, str) else "+".join(part)
