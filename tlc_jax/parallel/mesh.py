"""The mesh of all devices, and how arrays lie on it: batches split over `data`, parameters replicated."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlc_jax.core.errors import UserError

AXES = ("data", "fsdp", "tensor")


def make_mesh() -> Mesh:
    """All devices on the axis `data`. Auto axis types: the compiler places what rules leave open."""
    shape = (jax.device_count(), 1, 1)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis of a batch over the data axes."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def check_divides(mesh: Mesh, rows: int, name: str) -> None:
    """Raises UserError unless `rows`, the config's field `name`, splits evenly over the devices."""
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % devices:
        raise UserError(f"{name} is {rows}, which does not split over {devices} devices: use a multiple")


def local_rows(mesh: Mesh, batch_size: int) -> slice:
    """Which rows of a batch this process builds; its devices' rows must be one stretch."""
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = sorted({index[0].indices(batch_size)[:2] for index in indices if index is not None})
    if any(end != start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise RuntimeError(f"the rows of this process are not one stretch: {spans}")
    return slice(spans[0][0], spans[-1][1])


def rows_of(mesh: Mesh) -> Callable[[int], slice]:
    """For a batch of so many rows, which of them this process builds."""
    return lambda batch_size: local_rows(mesh, batch_size)


def place(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a batch as global arrays of all rows."""
    sharding, devices = batch_sharding(mesh), mesh.shape["data"] * mesh.shape["fsdp"]
    own = local_rows(mesh, devices)  # one row a device: which share of them all is here
    whole = devices // (own.stop - own.start)
    return {
        name: jax.make_array_from_process_local_data(sharding, local, (whole * len(local), *local.shape[1:]))
        for name, local in batch.items()
    }
