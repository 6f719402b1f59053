"""How parameters are sharded over the mesh: ordered rules over their paths, which stand beside each model
family."""

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

Rules = Sequence[tuple[str, P]]
"""Ordered rules over paths of parameters, of a model family (models/families.py)."""


def param_shardings(mesh: Mesh, params: Params, rules: Rules) -> Any:
    """A tree of NamedSharding like `params`, which may be abstract. UserError where an axis of a parameter
    does not split evenly over its devices."""
    specs = match_rules(rules, params)
    for path, spec in flatten(specs).items():
        _check_divides(mesh, path, flatten(params)[path].shape, spec)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def like_params(mesh: Mesh, shardings: Any, tree: Any) -> Any:
    """Shardings of a tree (the optimizer's state) that holds, at any depth, arrays by the paths of
    parameters: those are sharded as their parameters are, everything else is replicated."""
    known = flatten(shardings)

    def sharding(path: Sequence[Any], _: Any) -> NamedSharding:
        keys = [str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey)]
        return known.get("/".join(keys), NamedSharding(mesh, P()))

    return jax.tree_util.tree_map_with_path(sharding, tree)


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
    """A line of the table of shardings; `spec` has the mesh axes of each axis of the parameter."""

    path: str
    shape: tuple[int, ...]
    spec: str
    bytes_per_device: int


def placements(mesh: Mesh, params: Params, rules: Rules) -> list[Placement]:
    """How each parameter is sharded, in the tree's order."""
    shardings = flatten(param_shardings(mesh, params, rules))
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
