"""The train step of a config, compiled for TPUs that are not attached: does it fit, what does it communicate?

libtpu compiles for a named topology. Nothing is executed and no data are read: the shapes of the largest
batch follow from the config.
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
from tlc_jax.core.errors import UserError, is_out_of_memory, one_line
from tlc_jax.models.flops import FORWARD
from tlc_jax.parallel.collectives import collectives
from tlc_jax.parallel.mesh import check_divides, make_mesh, rows_devices
from tlc_jax.parallel.sharding import placements
from tlc_jax.runs.memory import GIB, compile_abstract, micro_batch_sizes
from tlc_jax.runs.teacher import teacher_config
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params

# of a device of jax (cloud.google.com/tpu/docs; a chip of v2 or v3 is two devices)
MEMORY_GIB = {
    "TPU v2": 8,
    "TPU v3": 16,
    "TPU v4": 32,
    "TPU v5 lite": 16,
    "TPU v5": 95,
    "TPU v6 lite": 32,
}


def topology_devices(name: str) -> Sequence[Any]:
    """The devices of a topology such as v3:2x2 (a v3-8) or v5e:2x4; UserError where libtpu has none."""
    # libtpu describes a v4 by its cores, but jax runs programs with a chip as one device
    more = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        if not name:
            raise ValueError("it has no name")  # libtpu would take it for a v2
        return topologies.get_topology_desc(name, "tpu", **more).devices
    except Exception as error:  # any that libtpu raises, or of its absence
        why = one_line(error)
        hint = "give one such as v3:2x2, v5e:2x4 or v6e:2x4"
        if importlib.util.find_spec("libtpu") is None:
            hint = "install the compiler with pip install 'tlc-jax[tpu]' (from a checkout: '.[tpu]')"
        raise UserError(f"--topology {name!r} cannot be compiled for ({why}): {hint}") from error


def compile_for(
    config: Config,
    devices: Sequence[Any],
    say: Callable[[str], None],
    classes: int | None = None,
    *,
    pruned: bool = False,
) -> dict[str, Any]:
    """What the compiler says of an update: whether it `fits`, and numbers or the compiler's own sentence.

    Where micro_batch is 'auto': of the largest that fits, or of the smallest if none does. `say` is called
    with a sentence for each that is compiled. A classification needs the number of `classes`. `pruned`: the
    update of recovery, which keeps pruned weights at zero.
    """
    mesh = make_mesh(config.mesh, devices)
    if config.micro_batch != "auto":
        check_divides(mesh, config.rows_at_once, config.rows_at_once_named)
        return _compiled(config, mesh, classes, pruned)
    results: dict[int, dict[str, Any]] = {}

    def too_large(rows: int) -> bool:
        stopping.check()
        smaller = dataclasses.replace(config, micro_batch=rows)
        result = results[rows] = _compiled(smaller, mesh, classes, pruned)
        needs = f"{result['peak_gib']:.4g} GiB" if "peak_gib" in result else result["compiler"]
        say(f"micro-batch of {rows:,}: {needs}")
        return not result["fits"]

    sizes = micro_batch_sizes(config, rows_devices(mesh))
    return results[sizes[max(bisect.bisect_left(sizes, True, key=too_large) - 1, 0)]]


def _compiled(config: Config, mesh: Mesh, classes: int | None, pruned: bool) -> dict[str, Any]:
    objective, devices = kind_of(config).objective(config, classes), mesh.devices.flatten()
    flops = objective.update_flops(objective.largest_batch())
    teacher = teacher_config(config)
    learnt = teacher and kind_of(teacher).objective(teacher, classes)
    if learnt:
        flops += FORWARD * learnt.update_flops(objective.largest_batch())
    params, rules = abstract_params(objective), objective.family.sharding_rules
    result: dict[str, Any] = {
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "mesh": dict(mesh.shape),
        "micro_batch": config.at_once,
        "remat": config.model.remat,
        "memory_gib": config.memory_gib or MEMORY_GIB.get(devices[0].device_kind),
        "flops_per_device": flops / len(devices),
        "parameters": [dataclasses.asdict(line) for line in placements(mesh, params, rules)],
        "jax": jax.__version__,
    }
    began = time.monotonic()
    try:
        batches = [objective.largest_batch()]
        program = compile_abstract(objective, config, mesh, batches, learnt, pruned)
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return {**result, "fits": False, "compiler": one_line(str(error).split("\n")[0])}
    (text,) = (compiled.as_text() for compiled in program.by_shape.values())
    peak = program.peak_bytes / GIB
    return {
        **result,
        "fits": config.memory_gib is None or peak <= config.memory_gib,
        "compile_seconds": time.monotonic() - began,
        "peak_gib": peak,
        "collectives": [dataclasses.asdict(kind) for kind in collectives(text or "")],
    }


def described(result: dict[str, Any]) -> str:
    """The result of `compile_for` as a table."""
    lines = {
        "devices": result["devices"],
        "mesh": " x ".join(f"{name} {size}" for name, size in result["mesh"].items()),
        "micro-batch": f"{result['micro_batch']:,}, over all devices",
        "recomputed": result["remat"],
        "FLOPs": f"{result['flops_per_device']:.4g} for each device and update",
    }
    if "compiler" in result:
        lines["does not fit"] = result["compiler"]
    else:
        limit = result["memory_gib"]
        of = f" of {limit}" if limit else ""
        lines["peak memory"] = f"{result['peak_gib']:.4g} GiB{of} on each device"
        if not result["fits"]:
            lines["does not fit"] = f"it needs {result['peak_gib'] - limit:.3g} GiB more than memory_gib"
        lines["compiled in"] = f"{result['compile_seconds']:.0f} s"
        for sent in result["collectives"]:
            lines[sent["kind"]] = f"{sent['times']:,} an update, {sent['bytes'] / 1e6:,.1f} MB"
    lines["parameters"] = "their sharding, and the bytes of each device"
    shardings = [
        f"  {x['path']:50} {list(x['shape'])!s:20} {x['spec']:20} {x['bytes_per_device']:>13,} bytes"
        for x in result["parameters"]
    ]
    return "\n".join([*(f"{name:15} {value}" for name, value in lines.items()), *shardings])
