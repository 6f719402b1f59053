"""One command, one run: opens or goes on with a run directory, shows the first screen, trains."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.marks import MarksAhead
from tlc_jax.config.saved import digest, flat
from tlc_jax.core import stopping
from tlc_jax.core.clock import Budget, Clock, Deadline
from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.core.progress import duration, stage
from tlc_jax.parallel import hosts
from tlc_jax.parallel.mesh import check_divides, make_mesh, place, rows_of
from tlc_jax.runs.branch import Branch
from tlc_jax.runs.checkpoint import Restored, saved_data_identity, whole_steps
from tlc_jax.runs.facts import facts, record_start, whether_there
from tlc_jax.runs.initial_checkpoint import source_params, with_source
from tlc_jax.runs.memory import fitted
from tlc_jax.runs.saving import Checkpoints
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, is_remote, make_folder, remove_leftovers, write_text
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.sealed import is_sealed
from tlc_jax.storage.untrusted import read_text
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.build import (
    Data,
    keep_data,
    make_task,
    open_data,
    prepare_data,
)
from tlc_jax.training import loop
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.metrics import Meter, MetricsWriter, read_metrics
from tlc_jax.training.schedule import controls
from tlc_jax.training.skipped import SkippedSteps
from tlc_jax.training.state import Start, init_state
from tlc_jax.training.step import compile_train_step, make_train_step
from tlc_jax.training.view import View, make_console, show_config, show_facts
from tlc_jax.training.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class Order:
    """What a command asks for. `document` is the config as its file has it, before overrides."""

    config: Config
    document: Config
    workdir: AnyPath
    init_from: AnyPath | None = None
    branch: Branch | None = None
    start: Start | None = None
    data_from: RunDir | None = None
    """A run whose data are this one's too."""
    dry_run: bool = False
    title: str | None = None
    """As a part of something larger: what the progress is called; config and facts are not shown."""


def run(order: Order, console: Console | None = None) -> None:
    """Does what the order says; UserError where the input is wrong, Interrupted after a signal."""
    started = time.monotonic()
    console = console or make_console()
    hosts.check_same(_asked(order))
    if order.init_from is not None:
        config = with_source(order.config, order.document, RunDir(order.init_from))
        order = dataclasses.replace(order, config=config)
    if order.branch is not None:
        trunk = order.branch.trunk.read_config()
        data_from = order.branch.trunk
        order = dataclasses.replace(order, config=order.branch.config(), document=trunk, data_from=data_from)
    config, rundir = order.config, RunDir(order.workdir)
    resumed = hosts.first(rundir.exists)
    if resumed:
        order = _as_begun(order, rundir, console)
        rundir.check_same(order.config)
        hosts.first(lambda: _check_checkpoints(rundir))
    config, mesh = order.config, make_mesh(order.config.mesh)
    if config.micro_batch != "auto":
        check_divides(mesh, config.rows_at_once, config.rows_at_once_named, kept=resumed)
    if order.title is None:
        show_config(console, config, order.document)
    if order.dry_run:
        show_facts(console, facts(config, None, rundir, whether_there(config, rundir)))
        return
    with contextlib.ExitStack() as held:
        opened = None
        if not resumed:
            hosts.first(lambda: _check_folder(rundir))  # before the long work: can it be made?
            opened = hosts.on_first(lambda: _open_data(config, order.data_from or rundir, console))
            config = fitted(config, make_task(config, opened) if opened else None, mesh, console)
            order = dataclasses.replace(order, config=config)
        claimed = hosts.on_first(lambda: _claim(rundir, config, held))
        data = hosts.on_first(
            lambda: _keep(order, rundir, opened or _open_data(config, rundir, console), console)
        )
        data = data or open_data(config, rundir.data)
        _run(order, rundir, mesh, data, console, started, claimed or (lambda: None))


def _asked(order: Order) -> dict[str, Any]:
    """What a command line asks for."""
    return {
        **flat(order.config),
        "--workdir": str(order.workdir),
        "--init-from": order.init_from and str(order.init_from),
        "--branch-from": order.branch and str(order.branch),
        "--dry-run": order.dry_run,
    }


def _check_folder(rundir: RunDir) -> None:
    if not rundir.root.exists() and not is_remote(rundir.root):
        make_folder(rundir.root)
        rundir.root.rmdir()


def _claim(rundir: RunDir, config: Config, held: contextlib.ExitStack) -> Callable[[], None]:
    """The folder is this run's, and nobody else's while it is `held`. Gives a function that raises SaveFailed
    where it was taken away."""
    make_folder(rundir.root)
    check = held.enter_context(locked(rundir.root))
    if isinstance(rundir.root, Path):
        remove_leftovers(rundir.root)
    if rundir.config.exists():
        rundir.check_same(config)
    else:
        write_json(rundir.config, dataclasses.asdict(config))

    def still_there() -> None:
        check()
        if not is_remote(rundir.root) and not rundir.config.exists():
            raise SaveFailed(
                f"{rundir.config} was removed while the run was at work: nothing more is written to "
                f"{rundir.root}; put it back and run the same command again, or give a new --workdir"
            )

    return still_there


def _as_begun(order: Order, rundir: RunDir, console: Console) -> Order:
    """With the micro-batch that 'auto' stood for when the run began: it is part of what the run is."""
    if order.config.micro_batch != "auto":
        return order
    try:
        begun = dataclasses.replace(order.config, micro_batch=rundir.read_config().micro_batch)
    except ValueError:  # it does not go with another batch_size
        rundir.check_same(order.config)
        raise
    console.print(f"micro_batch {begun.at_once:,}, as when the run began")
    return dataclasses.replace(order, config=begun)


def _run(
    order: Order,
    rundir: RunDir,
    mesh: jax.sharding.Mesh,
    data: Data,
    console: Console,
    started: float,
    still_there: Callable[[], None],
) -> None:
    """The part of a run that nobody else may be doing."""
    config = order.config
    task = make_task(config, data)
    if order.title is None:
        show_facts(console, facts(config, data, rundir, task.facts()))
    with Checkpoints(rundir.checkpoints, config.checkpoint.keep) as checkpoints:
        session = _session(order, rundir, task, data, mesh, checkpoints, console, started)
        session.still_there = still_there
        with contextlib.closing(session.writer):
            if session.done():
                loop.evaluate_if_lost(session)
                console.print(f"complete: {session.step:,} steps, nothing left to do in {rundir.root}")
                return
            _compile(session, console)
            stopping.check()
            with session.view:
                loop.train(session)
        console.print(f"done: {session.step:,} steps in {rundir.root}")


def _keep(order: Order, rundir: RunDir, opened: Data | None, console: Console) -> Data:
    """The run's own copy of its data, and of what else tells its story."""
    source = rundir if _has_data(rundir) else order.data_from or rundir
    data = opened or _open_data(order.config, source, console)
    if not _has_data(rundir):
        if is_remote(rundir.data):
            console.print(f"copying the data to {rundir.data}")
        data = keep_data(data, order.config, rundir.data)
    write_text(rundir.tokenizer, read_text(data.folder / "tokenizer.json"))
    record_start(rundir, order.init_from and str(order.init_from), order.branch and str(order.branch))
    return data


def _check_checkpoints(rundir: RunDir) -> None:
    """A run that has metrics has a folder of checkpoints too, from before its first step."""
    reached = max((line["step"] for line in read_metrics(rundir.metrics)), default=0)
    if reached and not rundir.checkpoints.exists():
        raise UserError(
            f"{rundir.checkpoints} is missing though {rundir.metrics} reaches step {reached:,}: put it back, "
            "or give a new --workdir"
        )
    if whole_steps(rundir.checkpoints) and not rundir.metrics.exists():
        raise UserError(
            f"{rundir.metrics} is missing though there are checkpoints: put it back, or make an empty file "
            "to go on without what it told"
        )


def _has_data(rundir: RunDir) -> bool:
    """A bucket may hold a part of what was being copied there: it is whole with its manifest."""
    return is_sealed(rundir.data) if is_remote(rundir.data) else rundir.data.exists()


def _open_data(config: Config, rundir: RunDir, console: Console) -> Data:
    """The run's own data; a run that has none yet takes them from the cache or makes them."""
    if _has_data(rundir):
        if is_remote(rundir.data):
            console.print(f"data from {rundir.data}")
        return open_data(config, rundir.data)
    data, trained_on = prepare_data(config, console), saved_data_identity(rundir.checkpoints)
    if trained_on not in (None, data.manifest["identity"]):
        raise UserError(
            f"{rundir.data} is missing, and {data.manifest['source']} is no longer what {rundir.root} was "
            "trained on: put either back"
        )
    return data


def _session(
    order: Order,
    rundir: RunDir,
    task: Task,
    data: Data,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    console: Console,
    started: float,
) -> loop.Session:
    config = order.config
    init_key, dropout_key = jax.random.split(jax.random.key(config.seed))
    state, optimizer = init_state(task, config.optimizer, init_key, mesh, order.start)
    step, meta, lines = 0, {}, rundir.metrics
    if (restored := checkpoints.restore(state)) is not None:
        step, state, meta = restored.step, restored.state, restored.meta
        _check_belongs(restored, config, rundir, data)
        hosts.first(lambda: _tell_restored(restored, rundir, console))
    elif order.branch is not None:
        restored = order.branch.restore(state)
        step, state, meta = restored.step, restored.state, restored.meta
        lines = order.branch.trunk.metrics
        checkpoints.save(step, state, {**meta, "config": digest(config)})
        console.print(f"{order.branch.point} of {order.branch.trunk.root}, step {step:,}")
    elif order.init_from is not None:
        params, source_step = source_params(RunDir(order.init_from), state.params, console.print)
        state = dataclasses.replace(state, params=params)
        console.print(f"parameters from {order.init_from}, step {source_step:,}")
    else:
        hosts.first(lambda: _tell_lost(rundir, console))
    clock = Clock(
        training_seconds=meta.get("training_seconds", 0.0),
        total_seconds=meta.get("total_seconds", 0.0) + time.monotonic() - started,
    )
    rows = config.at_once
    budget = Budget(config.budget, config.schedule.follows, task.tokens_per_step)
    share = budget.fraction(step, clock.training_seconds)
    view = View(console, budget, step, clock.training_seconds, order.title)
    writer = MetricsWriter(rundir.metrics, step, view.warned, lines)
    if writer.last is None:
        writer.write(0, clock.state(), {f"eval/{name}": value for name, value in task.baselines().items()})
    return loop.Session(
        config=config,
        task=task,
        mesh=mesh,
        budget=budget,
        ahead=MarksAhead(config.kept_marks, share, task.epochs(step)),
        clock=clock,
        state=state,
        step=step,
        train_step=make_train_step(task, config, optimizer, mesh),
        evaluate=Evaluator(task, rows, mesh, decode=True),
        checkpoints=checkpoints,
        writer=writer,
        meter=Meter(meta.get("meter")),
        skipped=SkippedSteps(config.max_skipped),
        data_identity=data.manifest["identity"],
        view=view,
        deadline=Deadline(config.stop_after, started),
        watchdog=Watchdog(config.hung_after, view.warned),
        fractions=list(meta.get("fractions", [])),
        key=dropout_key,
    )


def _check_belongs(restored: Restored, config: Config, rundir: RunDir, data: Data) -> None:
    if restored.meta.get("config") != digest(config):
        raise UserError(
            f"the checkpoint of step {restored.step:,} in {rundir.checkpoints} is of another run: remove it"
        )
    if restored.meta.get("data") != data.manifest["identity"]:
        raise UserError(f"{rundir.data} is not the data of this run: put its own files back")


def _tell_lost(rundir: RunDir, console: Console) -> None:
    if reached := max((line["step"] for line in read_metrics(rundir.metrics)), default=0):
        console.print(f"no checkpoint was saved before step {reached:,}: starting again from step 0")


def _tell_restored(restored: Restored, rundir: RunDir, console: Console) -> None:
    for text in restored.refused:
        console.print(f"{text}; it is put aside")
    trained = restored.meta.get("training_seconds", 0.0)
    after = [line for line in read_metrics(rundir.metrics) if line["step"] > restored.step]
    lost = max((line["training_seconds"] - trained for line in after), default=0.0)
    again = f", {duration(lost)} of training are done again" if after else ""
    console.print(f"continuing after step {restored.step:,}{again}")


def _compile(session: loop.Session, console: Console) -> None:
    """Compiles the step for every shape of batch, before the clock runs."""
    s = session
    samples = [place(s.mesh, batch) for batch in s.task.sample_batches(rows_of(s.mesh))]
    first, began = controls(s.config, 0.0, s.step), time.monotonic()
    if len(samples) == 1:
        console.print("compiling")
    named = (
        stage(console, "compiling", len(samples), "shapes") if len(samples) > 1 else contextlib.nullcontext()
    )
    with named as told:
        more = {} if told is None else {"told": told}
        s.train_step = compile_train_step(s.train_step, s.state, samples, s.key, first, s.mesh, **more)
    if len(samples) == 1:
        console.print(f"compiled in {time.monotonic() - began:.1f} s")
    hosts.all_say("compiled")  # a connection would not wait for the slowest compiler
    s.checkpoints.reserve(s.state)
