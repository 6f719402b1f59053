"""An update that is made again and again while its time is taken: its program, of the largest micro-batch
that fits in memory, a new state, and the batches of the run."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.data.batches import Prefetcher
from tlc_jax.parallel.hosts import leader
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
from tlc_jax.tasks.base import Batch
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.schedule import controls
from tlc_jax.training.state import init_params, init_state
from tlc_jax.training.step import CompiledStep


class TimedUpdate(contextlib.ExitStack):
    """The update of a config, until the context ends.

    Where neither config nor device says how much memory there is (a CPU), the micro_batch of the config is
    taken. `teacher` is the config with the network of a teacher which need not be trained yet; None: that of
    `distil.teacher`, if there is one. Its weights are new ones, since they change no time. Of an update that
    `takes_turns` with others, the state is in the memory of the host between its laps, so that each has room
    for its largest micro-batch; where no limit of memory is known, and where processes share the state, it
    stays on the device.
    """

    def __init__(
        self, config: Config, console: Console, teacher: Config | None = None, *, takes_turns: bool = False
    ):
        super().__init__()
        mesh = make_mesh(config.mesh)
        teacher = teacher or teacher_config(config)
        kind = kind_of(config)
        task = kind.task(config, kind.prepare(config, console))
        learnt = teacher and kind.objective(teacher, len(task.label_names))
        self.memory_limit = device_limit(config)
        programs: dict[int, CompiledStep] = {}

        def peak(rows: int) -> float:
            def compiled() -> int:
                smaller = dataclasses.replace(config, micro_batch=rows)
                programs[rows] = compile_abstract(task, smaller, mesh, abstract_batches(task), learnt)
                return programs[rows].peak_bytes

            return peak_or_infinite(compiled)

        if self.memory_limit is not None:
            sizes = micro_batch_sizes(config, rows_devices(mesh))
            self.micro_batch = largest_micro_batch(sizes, self.memory_limit, reported(peak, console))
        else:
            self.micro_batch = fitted(config, task, mesh, console, teacher).at_once
        if self.micro_batch not in programs:
            reported(peak, console)(self.micro_batch)
        self._step = programs[self.micro_batch]
        self.peak_bytes, self.tokens, self.devices = self._step.peak_bytes, task.tokens_per_step, mesh.size
        key = jax.random.key(config.seed)
        self._state, _ = init_state(task, config.optimizer, key, mesh)
        self._shardings = jax.tree.map(lambda x: x.sharding, self._state)
        params = None if learnt is None else init_params(learnt, key, mesh)
        self._rest = (key, controls(config, 0.5, 1), params)  # any point of a run costs the same

        def batch(number: int) -> Batch:
            return place(mesh, task.train_batch(number, rows_of(mesh)))

        self._batches = self.enter_context(Prefetcher(batch, 0))
        self._leaves = takes_turns and self.memory_limit is not None and jax.process_count() == 1
        self._leave_device()

    def laps(self, count: int) -> list[float]:
        """Seconds from the end of an update to the end of the next, as in the training loop: an update is
        dispatched before the previous one is waited for. One is made before and one after, and nothing is
        left under way. All processes have the seconds of process 0, which decide how many follow."""
        ends, in_flight = list[float](), self._dispatched()
        for _ in range(count + 1):
            following = self._dispatched()
            jax.block_until_ready(in_flight)
            ends.append(time.perf_counter())
            in_flight = following
        jax.block_until_ready(in_flight)
        self._leave_device()
        return leader.decide(lambda: [end - start for start, end in itertools.pairwise(ends)])

    def _leave_device(self) -> None:
        if self._leaves:
            self._state = jax.device_get(self._state)

    def _dispatched(self) -> object:
        state = jax.device_put(self._state, self._shardings) if self._leaves else self._state
        self._state, sums = self._step(state, next(self._batches), *self._rest)
        return sums
