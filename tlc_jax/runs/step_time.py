"""The time of an update by the paper's protocol (2.2), so that curves of runs on different machines can be
drawn over the time of one.

On an idle machine: the largest micro-batch that fits in memory, gradients accumulated to the whole batch,
steps until their time has settled, then mean and median of 100 steps.
"""

from __future__ import annotations

import dataclasses
import datetime
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core.progress import stage
from tlc_jax.core.tree import Params
from tlc_jax.data.batches import Prefetcher
from tlc_jax.parallel.mesh import make_mesh, place, rows_devices, rows_of
from tlc_jax.runs.memory import (
    abstract_batches,
    compile_abstract,
    device_limit,
    fitted,
    largest_micro_batch,
    micro_batch_sizes,
    peak_or_infinite,
    reported,
)
from tlc_jax.runs.teacher import teacher_config
from tlc_jax.tasks.base import Batch, Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.schedule import controls
from tlc_jax.training.state import TrainState, init_params, init_state
from tlc_jax.training.step import CompiledStep

STEPS = 100  # paper 2.2
WINDOW = 10  # steps whose median is compared with that of the WINDOW before
SETTLED = 0.05  # largest relative change
PATIENCE = 200  # steps until the time must have settled


def timed(config: Config) -> dict[str, Any]:
    """What the time of a step depends on, as in a timing file."""
    whole = dataclasses.asdict(config)
    about = {name: whole[name] for name in ("model", "task", "batch_size")}
    if config.distil.teacher is not None:
        about["teacher"] = config.distil.teacher
    return {**about, "sequence_length": config.data.sequence_length}


def measure_step_time(
    config: Config, console: Console, teacher: Config | None = None, *, steps: int = STEPS
) -> dict[str, Any]:
    """The content of a timing file, of so many steps. Where neither config nor device says how much memory
    there is (a CPU), the micro_batch of the config is timed. `teacher` is the config with the network of a
    teacher which need not be trained yet; None: that of `distil.teacher`, if there is one. Its weights are
    new ones, since they change no time."""
    mesh = make_mesh(config.mesh)
    teacher = teacher or teacher_config(config)
    kind = kind_of(config)
    task = kind.task(config, kind.prepare(config, console))
    state, _ = init_state(task, config.optimizer, jax.random.key(config.seed), mesh)
    learnt = teacher and kind.objective(teacher, len(task.label_names))
    params = None if learnt is None else init_params(learnt, jax.random.key(config.seed), mesh)
    limit = device_limit(config)
    programs: dict[int, CompiledStep] = {}

    def peak(rows: int) -> float:
        def compiled() -> int:
            smaller = dataclasses.replace(config, micro_batch=rows)
            programs[rows] = compile_abstract(task, smaller, mesh, abstract_batches(task), learnt)
            return programs[rows].peak_bytes

        return peak_or_infinite(compiled)

    if limit is not None:
        sizes = micro_batch_sizes(config, rows_devices(mesh))
        rows = largest_micro_batch(sizes, limit, reported(peak, console))
    else:
        rows = fitted(config, task, mesh, console, teacher).at_once
    if rows not in programs:
        reported(peak, console)(rows)
    warm_up, seconds = settle_and_time(
        _laps(task, config, state, programs[rows], mesh, params), console, steps
    )
    return {
        **timed(config),
        "micro_batch": rows,
        "memory_limit_bytes": limit,
        "peak_bytes": programs[rows].peak_bytes,
        "mean_seconds": statistics.fmean(seconds),
        "median_seconds": statistics.median(seconds),
        "standard_deviation_seconds": statistics.stdev(seconds),
        "steps": len(seconds),
        "warm_up_steps": warm_up,
        "settled": warm_up < PATIENCE,
        "tokens_per_second": task.tokens_per_step / statistics.fmean(seconds),
        "devices": f"{mesh.size} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }


def settle_and_time(laps: Iterator[float], console: Console, steps: int = STEPS) -> tuple[int, list[float]]:
    """(steps until the time settled, seconds of each of the next `steps`), from those of successive steps.
    After 200 steps the time is taken as it is, with a warning."""
    early: list[float] = []
    with stage(console, "warming up", None, "steps") as advance:
        while len(early) < PATIENCE and not _settled(early):
            early.append(next(laps))
            advance(1)
    if len(early) == PATIENCE:
        console.print(f"the time of a step has not settled in {PATIENCE} steps: is the machine busy?")
    seconds = []
    with stage(console, "timing", steps, "steps") as advance:
        for _ in range(steps):
            seconds.append(next(laps))
            advance(1)
    return len(early), seconds


def _settled(seconds: list[float]) -> bool:
    # disjoint windows: else a slow drift or a wave passes
    if len(seconds) < 2 * WINDOW or len(seconds) % WINDOW:
        return False
    before, now = statistics.median(seconds[-2 * WINDOW : -WINDOW]), statistics.median(seconds[-WINDOW:])
    return abs(now / before - 1) <= SETTLED


def _laps(
    task: Task,
    config: Config,
    state: TrainState,
    step: CompiledStep,
    mesh: jax.sharding.Mesh,
    teacher_params: Params | None,
) -> Iterator[float]:
    """Seconds from the end of a step to the end of the next, as in the training loop: a step is dispatched
    before the previous one is waited for."""
    key, control = jax.random.key(config.seed), controls(config, 0.5, 1)  # any point of a run costs the same

    def batch(number: int) -> Batch:
        return place(mesh, task.train_batch(number, rows_of(mesh)))

    with Prefetcher(batch, 0) as batches:
        state, in_flight = step(state, next(batches), key, control, teacher_params)
        ended = None
        while True:
            state, sums = step(state, next(batches), key, control, teacher_params)
            jax.block_until_ready(in_flight)
            in_flight, previous, ended = sums, ended, time.perf_counter()
            if previous is not None:
                yield ended - previous
