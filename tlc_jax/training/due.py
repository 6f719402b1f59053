"""What is due after a step, and why a run stops: decided once for each step, by process 0 for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tlc_jax.config import Config
from tlc_jax.config.marks import Mark
from tlc_jax.core import stopping
from tlc_jax.core.clock import Budget, Clock, Deadline
from tlc_jax.parallel.hosts import leader
from tlc_jax.training.saver import Saver
from tlc_jax.training.skipped import SkippedSteps

Stop = Literal["", "budget", "target", "deadline", "signal"]
"""Why a run stops after a step: it is complete ('budget', 'target') or interrupted; '' where it does not."""


@dataclass(frozen=True)
class Due:
    """What is due after a step, in the order of the fields."""

    seconds: float
    """Of training until now, by the clock of process 0."""
    marks: tuple[str, ...] = ()
    """Marks that this step reaches; its checkpoint is kept for them."""
    log: bool = False
    evaluate: bool = False
    save: bool = False
    failed_save: bool = False
    """A save in the background has failed: this is to be reported."""
    stop: Stop = ""


class MarksAhead:
    """The marks that a run has not reached yet."""

    def __init__(self, marks: Iterable[Mark], share: float, epochs: float):
        self._ahead = [mark for mark in marks if not mark.reached(share, epochs)]

    def reached(self, share: float, epochs: float) -> tuple[str, ...]:
        """Names of the marks reached since the last call."""
        reached = [mark for mark in self._ahead if mark.reached(share, epochs)]
        self._ahead = [mark for mark in self._ahead if mark not in reached]
        return tuple(mark.name for mark in reached)


@dataclass
class Agenda:
    """What has to happen when in a run. Each process has one, and calls `due` once after each step."""

    config: Config
    budget: Budget
    marks: MarksAhead
    epochs: Callable[[int], float]
    deadline: Deadline
    saver: Saver
    skipped: SkippedSteps

    def due(self, step: int, clock: Clock) -> Due:
        """What is due after `step` finished steps."""
        reason = leader.stop_reason(self._interrupted())
        due = leader.decide(lambda: vars(self._due(step, clock.training_seconds, reason)))
        return Due(**{**due, "marks": tuple(due["marks"])})

    def _interrupted(self) -> str:
        """Why this process wants to stop."""
        near = self.deadline.near(self.saver.longest_save)
        return "deadline" if near else "signal" if stopping.requested() else ""

    def _due(self, step: int, seconds: float, reason: str) -> Due:
        config, complete = self.config, self.budget.done(step, seconds)
        marks = self.marks.reached(self.budget.fraction(step, seconds), self.epochs(step))
        periodic = _every(config.checkpoint.every_steps, step) and not self.skipped.in_a_row
        return Due(
            seconds,
            marks,
            log=_every(config.log_every, step),
            evaluate=complete or bool(marks) or _every(config.evaluation.every_steps, step),
            save=complete or bool(marks or reason) or periodic,
            failed_save=self.saver.failed(),
            stop="budget" if complete else reason,  # type: ignore[arg-type]
        )


def _every(steps: int | None, step: int) -> bool:
    return steps is not None and step % steps == 0
