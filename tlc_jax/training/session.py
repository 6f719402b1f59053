"""The work on a run in this process: its state, and what can be done with it between two steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tlc_jax.config import CompressionAwareConfig, Config
from tlc_jax.core.clock import Clock
from tlc_jax.core.errors import SaveFailed, one_line
from tlc_jax.core.tree import Params
from tlc_jax.parallel.hosts import leader
from tlc_jax.parallel.mesh import place, rows_of
from tlc_jax.tasks.base import Batch, Sums, Task
from tlc_jax.training.best import best_until
from tlc_jax.training.compressed_params import written
from tlc_jax.training.distillation import Teacher
from tlc_jax.training.due import Agenda, Due
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.masked import masks_of, tensor_masks
from tlc_jax.training.metrics import Meter, MetricsWriter
from tlc_jax.training.saver import Saver
from tlc_jax.training.schedule import controls
from tlc_jax.training.state import TrainState
from tlc_jax.training.step import TrainStep, compile_train_step
from tlc_jax.training.view import View


@dataclass
class Session:
    """Everything that one process needs to train a run; `runs/assemble.py` puts it together."""

    config: Config
    task: Task
    mesh: Mesh
    state: TrainState
    step: int
    """Number of finished updates, those of earlier processes included."""
    train_step: TrainStep
    key: jax.Array
    """For dropout."""
    evaluator: Evaluator
    saver: Saver
    writer: MetricsWriter
    meter: Meter
    agenda: Agenda
    clock: Clock
    view: View
    identity: dict[str, str]
    """Of the config and the data, by which a checkpoint knows its run."""
    check_folder: Callable[[], None]
    """Raises SaveFailed where the run directory was removed or replaced."""
    teacher: Teacher | None = None
    """Whose predictions are learnt beside the data."""
    marks: tuple[str, ...] = ()
    """Those that are reached and not saved yet."""
    fraction: float = 0.0
    control: dict[str, np.ndarray] = field(default_factory=dict)
    """The used fraction of the budget before the last update, and the scalars it was computed with."""

    def batch(self, step: int) -> Batch:
        """The batch of the update that follows `step` finished ones, on the devices."""
        return place(self.mesh, self.task.train_batch(step, rows_of(self.mesh)))

    def compile(self) -> None:
        """Compile the update for every shape of batch, before the clock runs."""
        samples = [place(self.mesh, batch) for batch in self.task.sample_batches(rows_of(self.mesh))]
        control = controls(self.config, 0.0, self.step)
        with self.view.compiling(len(samples)) as advance:
            self.train_step = compile_train_step(
                self.train_step,
                self.state,
                samples,
                self.key,
                control,
                self.mesh,
                advance,
                self.teacher and self.teacher.params,
            )
        leader.gather("compiled")  # a collective would not wait for the slowest compiler
        self.saver.reserve(self.state)

    def advance(self, batch: Batch, seconds: float) -> Sums:
        """One update, after so many training seconds, and its sums. What a checkpoint holds changes here."""
        self.fraction = self.agenda.budget.fraction(self.step, seconds)
        self.control = controls(self.config, self.fraction, self.step)
        teacher_params = self.teacher and self.teacher.params
        self.state, sums = self.train_step(self.state, batch, self.key, self.control, teacher_params)
        self.step += 1
        self.meter.add(sums)
        return sums

    def due(self) -> Due:
        """What is due after the step that just ended."""
        due = self.agenda.due(self.step, self.clock)
        self.marks = due.marks
        return due

    def log(self) -> None:
        """Write a line of training metrics, of the steps since the last one."""
        sums = self.meter.peek()
        metrics = self.task.metrics(sums) if sums["weight"] else {}  # 0: all of these steps were skipped
        values: dict[str, Any] = {f"train/{name}": value for name, value in metrics.items()}
        for name in ("distil_loss", "distil_hidden_loss"):
            if metrics and name in sums:
                values[f"train/{name}"] = sums[name] / sums["weight"]
        values |= {
            "train/gradient_norm": sums["gradient_norm"],
            "train/skipped_steps": sums["skipped_steps"],
            **{f"train/{name}": value.item() for name, value in self.control.items()},
            "tokens": round(self.step * self.task.tokens_per_step),
            "epoch": round(self.task.epochs(self.step), 4),
            "budget_fraction": self.fraction,
            **self._operations(),
        }
        self.check_folder()
        with self.clock.paused():  # `peek` has waited for the device; a tracker may wait for a network
            line = self.writer.write(self.step, self.clock.state(), values)
        self.meter.clear()
        self.view.logged(line)

    def evaluate(self) -> None:
        """Evaluate on the sets that training may look at, and write a line; the clock is paused."""
        jax.block_until_ready(self.state)
        with self.clock.paused():
            sets, metric = self.task.evaluation_sets(), self.task.primary_metric
            values: dict[str, Any] = {**self.evaluator(self._written(), sets)}
            counted = self.config.compression_aware.counted_from(self.config.budget.steps)
            if self.config.checkpoint.best and self.step >= counted:
                value = values[f"eval/{sets[0]}/{metric.name}"]
                values |= best_until(self.step, value, metric, self.writer.evaluation)
            values |= self._operations()
            if self.marks:
                values["marks"] = list(self.marks)
            self.check_folder()
            self.view.evaluated(self.writer.write(self.step, self.clock.state(), values))

    def _written(self) -> Params:
        """The parameters as an artifact would hold them, where the config has them pruned or rounded."""
        aware, params = self.config.compression_aware, self.state.params
        if aware == CompressionAwareConfig():
            return params
        return written(aware, params, tensor_masks(jax.device_get(masks_of(self.state.optimizer))))

    def save(self, last: bool = False) -> None:
        """Save in the background; the clock is paused. A save that fails is reported and training continues,
        but the `last` one is waited for and must succeed (SaveFailed)."""
        jax.block_until_ready(self.state)
        with self.clock.paused():
            self.settle_save()
            leader.decide(self.check_folder)
            meta = {
                "meter": self.meter.peek(),
                "micro_batches": self.config.micro_batches,
                **self.identity,
            }
            marks, self.marks = self.marks, ()
            self.agenda.marks.drop(marks)
            try:
                self.saver.save(
                    self.step, self.state, {**self.clock.state(), **meta}, marks, self._before_a_save_counts
                )
                if last:
                    self.saver.wait()
            except SaveFailed as failure:
                if last:
                    raise
                self.view.warned(f"{failure}; training continues")

    def settle_save(self) -> None:
        """Wait for the save in the background; if it failed this is reported, and the next one is tried."""
        try:
            self.saver.wait()
        except SaveFailed as failure:
            self.view.warned(f"{failure}; training continues")

    def rescue(self, error: BaseException) -> None:
        """Save what was trained before `error`, if possible; the caller raises the error in any case."""
        if any(x.is_deleted() for x in jax.tree.leaves(self.state)):  # by the step that failed
            return
        try:
            self.settle_save()
            if self.saver.newest == self.step or self.agenda.skipped.in_a_row:
                return
            self.view.warned(f"{one_line(error)}: step {self.step:,} is saved before the end")
            self.save(last=True)
        except Exception as failure:
            self.view.warned(f"step {self.step:,} could not be saved ({one_line(failure)})")

    def _operations(self) -> dict[str, float]:
        """Floating-point operations of the whole run until now."""
        more = self.teacher.operations() if self.teacher else {}
        each = self.task.operations()
        return {name: self.step * (count + more.get(name, 0.0)) for name, count in each.items()}

    def _before_a_save_counts(self) -> None:
        """A checkpoint never knows more than the metrics beside it."""
        self.check_folder()
        self.writer.flush()
