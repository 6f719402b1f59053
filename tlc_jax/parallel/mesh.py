"""The mesh of devices, and the sharding of batches over it (of parameters: `sharding.py`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlc_jax.config import MeshConfig
from tlc_jax.core.axes import AXES, ROWS
from tlc_jax.core.errors import UserError
from tlc_jax.parallel import accelerators


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices (or of `devices`) in the shape of the config. Its axis types are Auto: the
    compiler chooses the sharding of what no rule names. UserError where an accelerator would be unused."""
    devices = devices or accelerators.devices()
    inner, count = config.fsdp * config.tensor, len(devices)
    data = config.data or count // inner
    if data * inner != count:
        groups = f"mesh.data {config.data} x " if config.data else ""
        are = "are not" if config.data else "do not divide"
        raise UserError(
            f"{groups}mesh.fsdp {config.fsdp} x mesh.tensor {config.tensor} {are} the {count} devices: "
            "change one of them"
        )
    shape = (data, config.fsdp, config.tensor)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def rows_devices(mesh: Mesh) -> int:
    """How many devices the rows of a batch are split over."""
    return math.prod(mesh.shape[name] for name in ROWS)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Splits the leading axis of a batch over the axes of rows."""
    return NamedSharding(mesh, PartitionSpec(ROWS))


def check_divides(mesh: Mesh, rows: int, name: str, kept: bool = False) -> None:
    """UserError unless `rows`, the value of the field `name`, splits evenly over the devices. `kept`: it is
    that of a run to be resumed, which may change its mesh but not its rows."""
    devices = rows_devices(mesh)
    if rows % devices:
        hint = "use a multiple"
        if kept:
            hint = (
                f"the run keeps it, so take a number of devices that divides {rows}, or set mesh.tensor, "
                "whose devices do not split rows"
            )
        raise UserError(f"{name} is {rows}, which does not split over {devices} devices: {hint}")


def local_rows(mesh: Mesh, batch_size: int) -> slice:
    """Which rows of a batch this process builds: those of its devices, which must be contiguous."""
    indices = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    spans = sorted({index[0].indices(batch_size)[:2] for index in indices if index is not None})
    if any(end != start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise RuntimeError(f"the rows of this process are not contiguous: {spans}")
    return slice(spans[0][0], spans[-1][1])


def on(mesh: Mesh, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, traced with the axes of the mesh (`core/axes.py`) in scope."""

    def traced(*args: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def rows_of(mesh: Mesh) -> Callable[[int], slice]:
    """`local_rows` as a function of the batch size."""
    return lambda batch_size: local_rows(mesh, batch_size)


def place(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The rows of this process as a part of global arrays of all rows."""
    sharding, devices = batch_sharding(mesh), rows_devices(mesh)
    here = local_rows(mesh, devices)  # of one row a device
    shares = devices // (here.stop - here.start)
    return {
        name: jax.make_array_from_process_local_data(sharding, local, (shares * len(local), *local.shape[1:]))
        for name, local in batch.items()
    }
