"""The axes of the mesh, and sharding constraints on values inside a program.

`data`    the rows of a batch are split over it
`fsdp`    rows too, and parameters, gradients and optimizer state, which are gathered where they are used
`tensor`  attention heads and feed-forward units: each device computes its share
"""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")


def constrain(x: jax.Array, *spec: str | tuple[str, ...] | None) -> jax.Array:
    """`x` and its gradient with each array axis split over the named mesh axes; an axis that is None or not
    named is not split. `x` unchanged outside a program for a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def shard_rows(x: jax.Array) -> jax.Array:
    """`x` with its rows split over the devices, and nothing else."""
    return constrain(x, ROWS)
