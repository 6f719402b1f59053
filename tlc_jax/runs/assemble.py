"""From an open run to the session that trains it: everything that takes long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import jax

from tlc_jax.core.clock import Budget, Clock, Deadline
from tlc_jax.runs.checkpoint import Restored
from tlc_jax.runs.open_run import Run
from tlc_jax.runs.teacher import check_same_teacher
from tlc_jax.training.due import Agenda, MarksAhead
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.metrics import Meter, MetricsWriter
from tlc_jax.training.movement import Movement
from tlc_jax.training.session import Session
from tlc_jax.training.skipped import SkippedSteps
from tlc_jax.training.state import TrainState, init_state, seed_keys
from tlc_jax.training.step import make_train_step
from tlc_jax.training.tensorboard import TensorBoard
from tlc_jax.training.trackers import Tracker
from tlc_jax.training.view import View


def assemble(run: Run, trackers: Sequence[Tracker] = ()) -> Session:
    """State, update, evaluator and metrics of the run, whose lines `trackers` get too; the update is compiled
    if there is one to do."""
    config, task = run.config, run.task
    init_key, dropout_key = seed_keys(config.seed)
    restored = run.restored or _initial(run, init_key)
    step, meta = restored.step, restored.meta
    clock = Clock(
        training_seconds=meta.get("training_seconds", 0.0),
        total_seconds=meta.get("total_seconds", 0.0) + time.monotonic() - run.started,
    )
    budget = Budget(config.budget, config.schedule.follows, task.tokens_per_step, config.ends_at)
    view = View(run.console, budget, step, clock.training_seconds, run.title)
    skipped = SkippedSteps(config.max_skipped)
    marks = MarksAhead(config.kept_marks, budget.fraction(step, clock.training_seconds), task.epochs(step))
    writer = _writer(run, step, clock, view, trackers)
    deadline = Deadline(config.stop_after, run.started)
    teacher = run.teacher and run.teacher.for_training()
    session = Session(
        config=config,
        task=task,
        mesh=run.mesh,
        state=restored.state,
        step=step,
        train_step=make_train_step(task, config, run.optimizer, run.mesh, teacher and teacher.objective),
        key=dropout_key,
        evaluator=Evaluator(task, config.at_once, run.mesh, decode=True),
        saver=run.saver,
        writer=writer,
        meter=Meter(meta.get("meter")),
        agenda=Agenda(config, task, budget, deadline, marks, run.saver, writer, skipped, first=step),
        clock=clock,
        view=view,
        identity=run.identity,
        check_folder=run.check_folder,
        teacher=teacher,
    )
    if not session.due().stop:
        session.compile()
    return session


def _initial(run: Run, key: jax.Array) -> Restored:
    """The state that the run begins with; one that was trained before, as a branch's, is saved at once."""
    config, begin = run.config, run.begin

    def new() -> TrainState:
        movement = Movement.of(config, run.abstract.params)
        return init_state(run.task, config.optimizer, key, run.mesh, movement)[0]

    restored = begin.initial(run.abstract, config.mesh, new, run.console.print)
    if restored.step:
        check_same_teacher(run.rundir.root, restored.meta.get("teacher"), run.identity.get("teacher"))
        run.saver.save(restored.step, restored.state, {**restored.meta, **run.identity})
        run.saver.wait()  # else what is due then would save this step again
    return restored


def _writer(run: Run, step: int, clock: Clock, view: View, trackers: Sequence[Tracker]) -> MetricsWriter:
    """The metrics of the run until `step`. A new run's begin with the baselines of its task; a run of an
    earlier version, which had others, gets them when it is resumed."""
    previous = run.begin.previous_metrics() if run.restored is None else None
    trackers = (*trackers, TensorBoard()) if run.config.tensorboard else trackers
    writer = MetricsWriter(run.rundir.metrics, step, view.warned, previous, trackers)
    run.held.enter_context(contextlib.closing(writer))
    baselines = {f"eval/{name}": value for name, value in run.task.baselines().items()}
    if writer.last is None or not writer.names >= baselines.keys():
        writer.write(step, clock.state(), baselines)
    return writer
