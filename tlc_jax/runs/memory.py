"""The largest micro-batch that fits on the devices, as the compiler tells; nothing is tried out."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from rich.console import Console

from tlc_jax.compression.select import default_rules
from tlc_jax.config import Config
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, is_out_of_memory
from tlc_jax.core.schema import Count, TypedDict, checked, record
from tlc_jax.core.stacked import Tensors, shapes_of
from tlc_jax.data import cache
from tlc_jax.parallel import hosts
from tlc_jax.parallel.hosts import leader
from tlc_jax.parallel.mesh import batch_sharding, replicated, rows_devices
from tlc_jax.storage.run_directory import write_json
from tlc_jax.storage.untrusted import read_json
from tlc_jax.tasks.base import AbstractBatch, Objective, Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.movement import Movement
from tlc_jax.training.schedule import controls
from tlc_jax.training.state import abstract_params, abstract_state, sharded_params
from tlc_jax.training.step import CompiledStep, compile_train_step, make_train_step

GIB = 2**30


def device_limit(config: Config) -> int | None:
    """Bytes that a program may use on a device, from the config or else from the device; None where neither
    says (a CPU)."""
    if config.memory_gib is not None:
        return int(config.memory_gib * GIB)
    return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")


def fitted(
    config: Config, task: Task | None, mesh: Mesh, console: Console, teacher: Config | None = None
) -> Config:
    """The config with the largest micro-batch that fits in place of 'auto'. The result for a program and its
    devices is kept in `data.cache_dir`. Only process 0 has a task before the data are copied. `teacher` is
    the config with the network of a teacher."""
    if config.micro_batch != "auto":
        return config
    limit = device_limit(config)
    if limit is None:
        kind = jax.devices()[0].device_kind
        raise UserError(
            f"micro_batch is auto, but a {kind} does not say how much memory it has: set memory_gib"
        )
    known = (
        cache.root(config.data.cache_dir) / "micro_batch" / f"{_program(config, mesh, limit, teacher)}.json"
    )
    sizes = micro_batch_sizes(config, rows_devices(mesh))
    rows = leader.decide(lambda: _read(known))
    if rows not in sizes:
        classes = leader.decide(lambda: len(task.label_names) if task else 0)
        objective, batch = kind_of(config).objective(config, classes), _largest(task)
        learnt = teacher and kind_of(teacher).objective(teacher, classes)

        def peak(rows: int) -> float:
            smaller = dataclasses.replace(config, micro_batch=rows)
            needed = peak_or_infinite(
                lambda: compile_abstract(objective, smaller, mesh, [batch], learnt).peak_bytes
            )
            return max(leader.gather(needed))

        rows = largest_micro_batch(sizes, limit, reported(peak, console))
        if hosts.is_first():
            with contextlib.suppress(OSError):  # then it is computed again next time
                known.parent.mkdir(parents=True, exist_ok=True)
                write_json(known, {"micro_batch": rows})
    console.print(f"micro_batch {rows:,}: the most that fit in {limit / GIB:.3g} GiB of each device")
    return dataclasses.replace(config, micro_batch=rows)


@record
class _Known(TypedDict):
    micro_batch: Count


def _read(known: Path) -> int | None:
    """The result that is kept; None where there is none, or the file is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return checked(read_json(known, most=1000), _Known)["micro_batch"]
    return None


def _largest(task: Task | None) -> AbstractBatch:
    """The batch with the longest rows of the task that process 0 has."""

    def largest() -> dict[str, tuple[tuple[int, ...], str]]:
        assert task is not None
        batches = abstract_batches(task)
        batch = max(batches, key=lambda batch: max(max(x.shape[1:], default=0) for x in batch.values()))
        return {name: (x.shape, x.dtype.name) for name, x in batch.items()}

    arrays = leader.decide(largest)
    return {name: jax.ShapeDtypeStruct(tuple(shape), dtype) for name, (shape, dtype) in arrays.items()}


def reported(peak: Callable[[int], float], console: Console) -> Callable[[int], float]:
    """`peak`, which prints its result, and raises Interrupted before the next one after a request to stop."""

    def peak_and_print(rows: int) -> float:
        stopping.check()
        needed = peak(rows)
        console.print(f"micro-batch of {rows:,}: {needed / GIB:.4g} GiB on each device")
        return needed

    return peak_and_print


def abstract_batches(task: Task) -> list[AbstractBatch]:
    """Shapes and types of the task's batches, over all processes."""
    return [
        {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch.items()}
        for batch in task.sample_batches(slice)
    ]


def compile_abstract(
    objective: Objective,
    config: Config,
    mesh: Mesh,
    batches: Sequence[AbstractBatch],
    teacher: Objective | None = None,
    pruned: bool = False,
) -> CompiledStep:
    """The train step of the config on the mesh, which learns from a `teacher` if there is one, and keeps what
    was `pruned` at zero, compiled for these shapes without any arrays."""
    movement = Movement.of(config, abstract_params(objective))
    masks = _masks(objective) if pruned else None
    state, optimizer = abstract_state(objective, config.optimizer, mesh, masks, movement)

    def abstract(tree: Any, sharding: NamedSharding) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    samples = abstract(list(batches), batch_sharding(mesh))
    key = abstract(jax.eval_shape(lambda: jax.random.key(0)), replicated(mesh))
    scalars = abstract(controls(config, 0.5, 1), replicated(mesh))
    step = make_train_step(objective, config, optimizer, mesh, teacher)
    params = None if teacher is None else sharded_params(teacher, mesh)
    return compile_train_step(step, state, samples, key, scalars, mesh, teacher_params=params)


def _masks(objective: Objective) -> Tensors:
    """A mask of each tensor that is pruned, which prunes nothing."""
    tensors = shapes_of(abstract_params(objective))
    pruned = [name for name, rule in default_rules(tensors).items() if rule.prune]
    return {name: np.broadcast_to(np.True_, tensors[name].shape) for name in pruned}


def _program(config: Config, mesh: Mesh, limit: int, teacher: Config | None) -> str:
    """A digest of all that the memory of an update depends on."""
    whole = dataclasses.asdict(config)
    about = {name: whole[name] for name in ("model", "task", "optimizer", "batch_size", "memory_gib")}
    about |= {"length": config.data.sequence_length, "mesh": dict(mesh.shape), "limit": limit}
    about |= {"device": mesh.devices.flat[0].device_kind, "jax": jax.__version__}
    if teacher:
        about["teacher"] = dataclasses.asdict(teacher.model)
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]


def micro_batch_sizes(config: Config, devices: int) -> list[int]:
    """Every `micro_batch` of a config whose rows split evenly over the devices, smallest first. UserError
    where there is none."""
    whole, rows = config.batch_size, config.task.rows_to_split(config.batch_size)
    counts = [n for n in range(rows // devices, 0, -1) if rows % (n * devices) == 0 and whole % n == 0]
    if not counts:
        field = config.task.rows_field
        raise UserError(f"no micro-batch splits over {devices} devices: take a {field} that is a multiple")
    return [whole // n for n in counts]


def largest_micro_batch(sizes: Sequence[int], limit: int, peak: Callable[[int], float]) -> int:
    """The largest of the ascending `sizes` whose `peak(size)`, in bytes of a device, is at most `limit`.

    The peak grows with the size, so few are computed. UserError where none fits.
    """
    needs = functools.cache(peak)
    fitting = bisect.bisect_left(sizes, True, key=lambda size: needs(size) > limit)
    if not fitting:
        needed = needs(sizes[0])
        amount = f"{needed / GIB:.3g} GiB" if needed < math.inf else "more than the device has"
        raise UserError(
            f"a micro-batch of {sizes[0]} needs {amount} on each device, which has {limit / GIB:.3g} GiB: "
            "take a smaller model, a shorter data.sequence_length or more memory"
        )
    return sizes[fitting - 1]


def peak_or_infinite(peak: Callable[[], int]) -> float:
    """`peak()`, or infinity where the compiler says that the program does not fit."""
    try:
        return peak()
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return math.inf
