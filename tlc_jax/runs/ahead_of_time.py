"""The train step of a config, compiled for TPUs that are not here: does it fit, and what does it send?

libtpu compiles for the topology that it is told of. Nothing is executed, and no data are read: the shapes of
the largest batch follow from the config.
"""

from __future__ import annotations

import bisect
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from tlc_jax.config import Config
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.parallel.collectives import collectives
from tlc_jax.parallel.mesh import check_divides, make_mesh, rows_devices
from tlc_jax.parallel.sharding import placements
from tlc_jax.runs.memory import GIB, compile_abstract, micro_batch_sizes
from tlc_jax.tasks.build import make_objective
from tlc_jax.training.state import abstract_params

# of one device, as jax sees them (cloud.google.com/tpu/docs: v2 and v3 have two to a chip)
MEMORY_GIB = {
    "TPU v2": 8,
    "TPU v3": 16,
    "TPU v4": 32,
    "TPU v5 lite": 16,
    "TPU v5": 95,
    "TPU v6 lite": 32,
}


def topology_devices(name: str) -> Sequence[Any]:
    """Those of a topology such as v3:2x2 (a v3-8) or v5e:2x4; UserError where libtpu does not know it."""
    # libtpu would describe a v4 by its cores; programs run on it with a chip as one device, as jax insists
    more = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        if not name:
            raise ValueError("it has no name")  # libtpu would take that for a v2
        return topologies.get_topology_desc(name, "tpu", **more).devices
    except Exception as error:  # whatever libtpu raises, also where it is missing
        why = one_line(error)
        todo = "give one such as v3:2x2, v5e:2x4 or v6e:2x4"
        if importlib.util.find_spec("libtpu") is None:
            todo = "install the compiler with pip install 'tlc-jax[tpu]' (from a checkout: '.[tpu]')"
        raise UserError(f"--topology {name!r} cannot be compiled for ({why}): {todo}") from error


def compile_for(config: Config, devices: Sequence[Any], tell: Callable[[str], None]) -> dict[str, Any]:
    """What the compiler says of one update: `fits`, and the numbers or the compiler's own sentence.

    Where micro_batch is 'auto', of the largest that fits, or the smallest if none does; `tell` hears of each
    that is tried.
    """
    mesh = make_mesh(config.mesh, devices)
    if config.micro_batch != "auto":
        check_divides(mesh, config.rows_at_once, config.rows_at_once_named)
        return _compiled(config, mesh)
    found: dict[int, dict[str, Any]] = {}

    def too_large(rows: int) -> bool:
        stopping.check()
        one = found[rows] = _compiled(dataclasses.replace(config, micro_batch=rows), mesh)
        needs = f"{one['peak_gib']:.4g} GiB" if "peak_gib" in one else one["compiler"]
        tell(f"micro-batch of {rows:,}: {needs}")
        return not one["fits"]

    sizes = micro_batch_sizes(config, rows_devices(mesh))
    return found[sizes[max(bisect.bisect_left(sizes, True, key=too_large) - 1, 0)]]


def _compiled(config: Config, mesh: Mesh) -> dict[str, Any]:
    objective, devices = make_objective(config), mesh.devices.flatten()
    flops = objective.update_flops(objective.largest_batch())
    params, rules = abstract_params(objective), objective.family.sharding_rules
    found: dict[str, Any] = {
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "mesh": dict(mesh.shape),
        "micro_batch": config.at_once,
        "remat": config.model.remat,
        "memory_gib": config.memory_gib or MEMORY_GIB.get(devices[0].device_kind),
        "flops_per_device": flops / len(devices),
        "parameters": [dataclasses.asdict(one) for one in placements(mesh, params, rules)],
        "jax": jax.__version__,
    }
    began = time.monotonic()
    try:
        program = compile_abstract(objective, config, mesh, [objective.largest_batch()])
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {**found, "fits": False, "compiler": one_line(str(error).split("\n")[0])}
    (text,) = (compiled.as_text() for compiled in program.by_shape.values())
    peak = program.peak_bytes / GIB
    return {
        **found,
        "fits": config.memory_gib is None or peak <= config.memory_gib,
        "compile_seconds": time.monotonic() - began,
        "peak_gib": peak,
        "collectives": [dataclasses.asdict(one) for one in collectives(text or "")],
    }


def described(found: dict[str, Any]) -> str:
    """What `compile_for` found, for a person."""
    mesh = " x ".join(f"{name} {size}" for name, size in found["mesh"].items())
    told = {
        "devices": found["devices"],
        "mesh": mesh,
        "micro-batch": f"{found['micro_batch']:,}, over all devices",
        "computed again": found["remat"],
        "FLOPs": f"{found['flops_per_device']:.4g} for each device and update",
    }
    if "compiler" in found:
        told["does not fit"] = found["compiler"]
    else:
        limit = found["memory_gib"]
        of = f" of {limit}" if limit else ""
        told["peak memory"] = f"{found['peak_gib']:.4g} GiB{of} on each device"
        if not found["fits"]:
            told["does not fit"] = f"it needs {found['peak_gib'] - limit:.3g} GiB more than memory_gib"
        told["compiled in"] = f"{found['compile_seconds']:.0f} s"
        for one in found["collectives"] or ():
            told[one["kind"]] = f"{one['times']:,} an update, {one['bytes'] / 1e6:,.1f} MB"
    lying = [
        f"  {one['path']:50} {list(one['shape'])!s:20} {one['spec']:20} {one['bytes_per_device']:>13,} bytes"
        for one in found["parameters"]
    ]
    told["parameters"] = "how they lie, and what each device has of them"
    return "\n".join([*(f"{name:15} {value}" for name, value in told.items()), *lying])
