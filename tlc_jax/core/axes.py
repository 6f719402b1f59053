"""The axes of the mesh, and how a value inside a program lies on it.

`data`    rows of a batch are split over it
`fsdp`    rows too; and parameters, gradients and optimizer state, which are gathered where they are used
`tensor`  heads and the units of feed-forward layers: each device computes its own
"""

from __future__ import annotations

import jax
from jax.sharding import PartitionSpec

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")


def lie(x: jax.Array, *spec: str | tuple[str, ...] | None) -> jax.Array:
    """`x` with each of its axes split over the named axes of the mesh (None, or not named: over none). The
    compiler moves it there, and its gradient too. Outside a program for a mesh nothing happens."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def whole(x: jax.Array) -> jax.Array:
    """All of `x` on every device."""
    return lie(x)


def by_rows(x: jax.Array) -> jax.Array:
    """Its rows split over the devices, and nothing else."""
    return lie(x, ROWS)
