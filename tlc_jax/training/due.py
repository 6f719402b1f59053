"""What is due after a step, and why a run stops: decided in one place, by process 0 for all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tlc_jax.config import Config
from tlc_jax.config.marks import BEST, Mark
from tlc_jax.core import stopping
from tlc_jax.core.clock import Budget, Clock, Deadline
from tlc_jax.parallel.hosts import leader
from tlc_jax.tasks.base import Task
from tlc_jax.training.metrics import MetricsWriter
from tlc_jax.training.saver import Saver
from tlc_jax.training.skipped import SkippedSteps

_ROUNDED = 0.001  # seconds by which a line of metrics may be too early
Stop = Literal["", "budget", "target", "deadline", "signal"]
"""Why a run stops after a step: it is complete ('budget', 'target') or interrupted; '' where it does not."""


@dataclass(frozen=True)
class Due:
    """What is due after a step, in the order of the fields."""

    seconds: float
    """Of training until now, by the clock of process 0."""
    marks: tuple[str, ...] = ()
    """Marks that are reached and not saved yet; the next checkpoint is kept for them."""
    log: bool = False
    evaluate: bool = False
    save: bool = False
    failed_save: bool = False
    """A save in the background has failed: this is to be reported."""
    stop: Stop = ""


class MarksAhead:
    """The marks of a run that are not saved yet."""

    def __init__(self, marks: Iterable[Mark], share: float, epochs: float):
        self._ahead = [mark for mark in marks if not mark.reached(share, epochs)]

    def reached(self, share: float, epochs: float) -> tuple[str, ...]:
        """Names of those that are reached."""
        return tuple(mark.name for mark in self._ahead if mark.reached(share, epochs))

    def drop(self, names: tuple[str, ...]) -> None:
        """They have been saved."""
        self._ahead = [mark for mark in self._ahead if mark.name not in names]


@dataclass
class Agenda:
    """What has to happen when in a run. Each process has one, and calls `due` at the same moments."""

    config: Config
    task: Task
    budget: Budget
    deadline: Deadline
    marks: MarksAhead
    saver: Saver
    writer: MetricsWriter
    skipped: SkippedSteps
    first: int
    """The step after which this process began: what was periodically due then was done."""

    def due(self, step: int, clock: Clock) -> Due:
        """What is due after `step` finished steps, and is not done yet. To be asked again after an
        evaluation, which may have reached `evaluation.stop_at`."""
        reason = leader.stop_reason(self._interrupted()) if step > self.first else ""
        due = leader.decide(lambda: vars(self._due(step, clock.training_seconds, reason)))
        return Due(**{**due, "marks": tuple(due["marks"])})

    def _interrupted(self) -> str:
        """Why this process wants to stop."""
        near = self.deadline.near(self.saver.longest_save)
        return "deadline" if near else "signal" if stopping.requested() else ""

    def _due(self, step: int, seconds: float, reason: str) -> Due:
        evaluation, stop_at = self.config.evaluation, self.config.evaluation.stop_at
        marks = self.marks.reached(self.budget.fraction(step, seconds), self.task.epochs(step))
        complete = self.budget.done(step, seconds)
        stop = "budget" if complete else "target" if self._reached(step) else reason
        evaluated = self._evaluation(step, "loss") is not None
        first = step == 0 and (stop_at is not None or self.config.checkpoint.best)
        special = complete or bool(marks) or first
        marks = (*marks, BEST) if self._is_best(step) else marks
        periodic_save = self._every(self.config.checkpoint.every_steps, step) and not self.skipped.in_a_row
        return Due(
            seconds,
            marks,
            log=not evaluated and self._every(self.config.log_every, step),
            evaluate=not evaluated
            and (
                special
                or self._every(evaluation.every_steps, step)
                or self._share(evaluation.per_run, step, seconds)
            ),
            save=self.saver.newest != step and bool(stop or marks or periodic_save),
            failed_save=self.saver.failed(),
            stop=stop,  # type: ignore[arg-type]
        )

    def _every(self, steps: int | None, step: int) -> bool:
        return steps is not None and step % steps == 0 and step > self.first

    def _share(self, count: int | None, step: int, seconds: float) -> bool:
        """Whether one more of the `count` evaluations spread over the budget is reached than at the last
        evaluation of all."""
        if count is None or step <= self.first:
            return False
        last = self.writer.evaluation or {"step": 0, "training_seconds": 0.0}
        now = self.budget.used(step, seconds)
        before = self.budget.used(last["step"], last["training_seconds"] + _ROUNDED)
        return math.floor(count * now + 1e-9) > math.floor(count * before + 1e-9)

    def _reached(self, step: int) -> bool:
        """Whether an evaluation after this very step has reached `evaluation.stop_at`."""
        target, metric = self.config.evaluation.stop_at, self.task.primary_metric
        value = self._evaluation(step, metric.name)
        counts = step >= self.config.compression_aware.counted_from(self.config.budget.steps)
        return counts and target is not None and value is not None and metric.reached(value, target)

    def _is_best(self, step: int) -> bool:
        """Whether the best evaluation until now, which is to be kept, was after this very step."""
        last = self.writer.evaluation
        return last is not None and last["step"] == last.get("best_step") == step

    def _evaluation(self, step: int, metric: str) -> float | None:
        """A metric of the set that decisions are made on; None where this very step was not evaluated."""
        last = self.writer.evaluation
        if last is None or last["step"] != step:
            return None
        return last.get(f"eval/{self.task.evaluation_sets()[0]}/{metric}")
