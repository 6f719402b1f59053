"""The training loop (see docs/architecture.md): batches, steps, and what is due after a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from tlc_jax.config import Config
from tlc_jax.config.marks import MarksAhead
from tlc_jax.config.saved import digest
from tlc_jax.core import stopping
from tlc_jax.core.clock import Budget, Clock, Deadline, FirstStep
from tlc_jax.core.errors import Interrupted, SaveFailed, one_line
from tlc_jax.data.batches import Prefetcher
from tlc_jax.parallel import hosts
from tlc_jax.parallel.mesh import place, rows_of
from tlc_jax.runs.saving import Checkpoints
from tlc_jax.tasks.base import Batch, Sums, Task
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.metrics import Meter, MetricsWriter
from tlc_jax.training.schedule import controls
from tlc_jax.training.skipped import NotFinite, SkippedSteps
from tlc_jax.training.state import TrainState
from tlc_jax.training.step import TrainStep
from tlc_jax.training.view import View
from tlc_jax.training.watchdog import Watchdog


@dataclass
class Session:
    """Everything one process needs to train a run from where it stands; the loop changes `state`."""

    config: Config
    task: Task
    mesh: Mesh
    budget: Budget
    ahead: MarksAhead
    clock: Clock
    state: TrainState
    step: int
    train_step: TrainStep
    evaluate: Evaluator
    checkpoints: Checkpoints
    writer: MetricsWriter
    meter: Meter
    skipped: SkippedSteps
    view: View
    deadline: Deadline
    watchdog: Watchdog
    fractions: list[float]
    key: jax.Array
    data_identity: str
    still_there: Callable[[], None] = lambda: None
    """Raises SaveFailed where the run directory was taken away."""
    marks: tuple[str, ...] = ()
    """Those that are reached and not saved yet."""
    batch: Callable[[int], Batch] = field(init=False)

    def __post_init__(self) -> None:
        rows = rows_of(self.mesh)
        self.batch = lambda step: place(self.mesh, self.task.train_batch(step, rows))

    def advance(self, batch: Batch, control: dict[str, np.ndarray], fraction: float) -> Sums:
        """One update, and its sums: what a checkpoint holds changes together."""
        self.state, sums = self.train_step(self.state, batch, self.key, control)
        self.step += 1
        self.meter.add(sums)
        if self.config.schedule.follows == "training_seconds":
            self.fractions.append(fraction)  # nobody could work them out again
        return sums

    def seconds(self) -> float:
        """Of training, by the clock of process 0: no other decides anything."""
        return hosts.first(lambda: self.clock.training_seconds)

    def done(self) -> bool:
        """Whether the budget is used, or what the run was to reach is reached."""
        return self.budget.done(self.step, self.seconds()) or self.reached()

    def reached(self) -> bool:
        """Whether the last evaluation, of this very step, found `evaluation.stop_at`."""
        target, last = self.config.evaluation.stop_at, self.writer.last
        if target is None or last is None or last["step"] != self.step:
            return False
        return last.get(_accuracy(self.task), 0.0) >= target


def train(session: Session) -> None:
    """Trains until the budget is used; evaluates and saves at the end. Raises Interrupted after a signal.

    After any other exception, whose fault it may be, the state is saved before it goes on."""
    began = session.step
    if began == 0 and session.config.evaluation.stop_at is not None:
        _evaluate_first(session)
    try:
        with session.watchdog, Prefetcher(session.batch, session.step) as batches, session.clock.running():
            _train(session, batches)
    except (SaveFailed, NotFinite):  # it cannot be saved, or is not worth it
        raise
    except BaseException as error:
        if session.step > began and hosts.count() == 1:  # others would not be there to save their part
            _rescue(session, error)
        raise


def _train(s: Session, batches: Iterator[Batch]) -> None:
    config, first, in_flight, lockstep = s.config, FirstStep(s.clock), None, hosts.lockstep()
    seconds, done = s.seconds(), s.done()
    while not done:
        fraction = s.budget.fraction(s.step, seconds)
        control = controls(config, fraction, s.step)
        sums = s.advance(next(batches), control, fraction)
        if in_flight is not None:
            s.skipped.add(s.step - 1, in_flight)  # waits for the step before: the device never idles
        in_flight = sums
        if first.pending() or lockstep:
            jax.block_until_ready((s.state, sums))
        if first.pending():
            first.ended()
        seconds = s.seconds()  # one look at the clock decides all that is due
        done = s.budget.done(s.step, seconds)
        s.marks += s.ahead.reached(s.budget.fraction(s.step, seconds), s.task.epochs(s.step))
        if s.step % config.log_every == 0:
            _log(s, fraction, control)
        if done or s.marks or _due(s.step, config.evaluation.every_steps):
            _evaluate(s)
            done = done or s.reached()
        why = hosts.stop_wanted(_stop_wanted(s))
        stop = bool(why) and not done
        due = _due(s.step, config.checkpoint.every_steps) and not s.skipped.in_a_row
        if done or stop or s.marks or due:
            jax.block_until_ready(s.state)
            with s.clock.paused():
                _save(s, last=done or stop)
        elif hosts.first(s.checkpoints.failed):
            _settle_save(s)
        if stop:
            raise Interrupted(f"{why} after step {s.step}, saved; {stopping.AGAIN}")
        s.watchdog.alive(s.step)
        s.view.stepped(s.step, s.clock.training_seconds)


def _rescue(s: Session, error: BaseException) -> None:
    """Saves what was trained, if that can be. `error` is raised in any case, by who calls this."""
    if any(x.is_deleted() for x in jax.tree.leaves(s.state)):  # the step that failed has taken it
        return
    try:
        _settle_save(s)
        if s.checkpoints.newest == s.step or s.skipped.in_a_row:
            return
        s.view.warned(f"{one_line(error)}: step {s.step:,} is saved before the end")
        _save(s, last=True)
    except Exception as failure:
        s.view.warned(f"step {s.step:,} could not be saved ({one_line(failure)})")


def _evaluate_first(s: Session) -> None:
    """Before any update: if that is good enough, the state it was found of is the run's result."""
    with s.clock.running():
        if s.writer.last is None or _accuracy(s.task) not in s.writer.last:
            _evaluate(s)
    if s.reached():
        _save(s, last=True)


def _accuracy(task: Task) -> str:
    return f"eval/{task.evaluation_sets()[0]}/accuracy"


def evaluate_if_lost(session: Session) -> None:
    """Of a run that is done: its last evaluation again, if the line was torn."""
    last = session.writer.last
    if last is None or last["step"] != session.step or not any(name.startswith("eval/") for name in last):
        with session.clock.running():
            _evaluate(session)
        session.writer.settle()


def _stop_wanted(s: Session) -> str:
    """Why this process wants to stop now, or ''."""
    if s.deadline.near(s.checkpoints.longest_save):
        return f"stopped before {s.config.stop_after:g} s are over,"
    return "interrupted" if stopping.requested() else ""


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _log(s: Session, fraction: float, control: dict[str, np.ndarray]) -> None:
    sums = s.meter.peek()
    found = s.task.metrics(sums) if sums["weight"] else {}  # nothing to divide by: all steps were skipped
    values: dict[str, Any] = {f"train/{name}": value for name, value in found.items()}
    values |= {
        "train/gradient_norm": sums["gradient_norm"],
        "train/skipped_steps": sums["skipped_steps"],
        **{f"train/{name}": value.item() for name, value in control.items()},
        "tokens": round(s.step * s.task.tokens_per_step),
        "epoch": round(s.task.epochs(s.step), 4),
        "budget_fraction": fraction,
        **({"budget_fractions": s.fractions} if s.fractions else {}),
    }
    s.still_there()
    line = s.writer.write(s.step, s.clock.state(), values)
    s.meter.clear()
    s.fractions = []
    s.view.logged(line)


def _evaluate(s: Session) -> None:
    jax.block_until_ready(s.state)
    with s.clock.paused():
        values: dict[str, Any] = {**s.evaluate(s.state.params, s.task.evaluation_sets())}
        if s.marks:
            values["marks"] = list(s.marks)
        s.still_there()
        s.view.evaluated(s.writer.write(s.step, s.clock.state(), values))


def _save(s: Session, last: bool) -> None:
    """A save that fails is told, and training goes on; of the last one it is the run's failure. The clock
    stands still."""
    jax.block_until_ready(s.state)
    _settle_save(s)
    hosts.first(s.still_there)
    meta = {
        "meter": s.meter.peek(),
        "fractions": s.fractions,
        "micro_batches": s.config.micro_batches,
        "data": s.data_identity,
        "config": digest(s.config),
    }

    def before() -> None:
        s.still_there()
        s.writer.flush()

    try:
        s.checkpoints.save(s.step, s.state, {**s.clock.state(), **meta}, s.marks, before)
        s.marks = ()
        if last:
            s.checkpoints.wait()
    except SaveFailed as failure:
        s.marks = ()
        if last:
            raise
        s.view.warned(f"{failure}; training goes on")


def _settle_save(s: Session) -> None:
    """Waits for the save before; that it went wrong is told, and is no reason not to try again."""
    try:
        s.checkpoints.wait()
    except SaveFailed as failure:
        s.view.warned(f"{failure}; training goes on")
