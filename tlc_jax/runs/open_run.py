"""Opening a run: everything that may be refused, before anything that takes long."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jax.sharding import Mesh
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.renamed import dropped
from tlc_jax.config.saved import digest
from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.core.progress import duration
from tlc_jax.data import cache
from tlc_jax.data.cache import Prepared
from tlc_jax.parallel.hosts import leader
from tlc_jax.runs.begin import Begin
from tlc_jax.runs.checkpoint import Restored, saved_data_identity
from tlc_jax.runs.facts import Document, facts
from tlc_jax.runs.memory import fitted
from tlc_jax.runs.resolve_config import resolve_config
from tlc_jax.runs.saving import Checkpoints
from tlc_jax.runs.starts import record_start
from tlc_jax.runs.teacher import LoadedTeacher, check_same_teacher, load_teacher, teacher_config
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, is_remote, make_folder, remove_leftovers, write_text
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.untrusted import read_text
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.movement import Movement
from tlc_jax.training.state import Optimizer, TrainState, abstract_params, abstract_state
from tlc_jax.training.view import show_config, show_facts


@dataclass(frozen=True)
class Run:
    """A run that this process may work on: its directory is locked, its data and checkpoint are its own."""

    config: Config
    begin: Begin
    rundir: RunDir
    mesh: Mesh
    data: Prepared
    task: Task
    abstract: TrainState
    """Shapes, types and shardings of its state."""
    optimizer: Optimizer
    saver: Checkpoints
    teacher: LoadedTeacher | None
    """Whose predictions are learnt beside the data."""
    identity: dict[str, str]
    """Of the config, the data and the teacher, by which a checkpoint knows its run."""
    restored: Restored | None
    """The newest whole checkpoint; None where the run is to begin."""
    check_folder: Callable[[], None]
    """Raises SaveFailed where the run directory was removed or replaced."""
    console: Console
    title: str | None
    """Of a run that is a part of something larger: what its progress is called."""
    started: float
    """When this process began with it (time.monotonic)."""
    held: contextlib.ExitStack
    """What is closed at the end, before the directory is unlocked."""


def show_run(config: Config, document: Document, workdir: AnyPath, begin: Begin, console: Console) -> None:
    """Print every option and what `open_run` would do; nothing is written."""
    more = document.facts(config)
    config, _, resumed = resolve_config(config, workdir, begin, console, dry_run=True)
    if not resumed:
        leader.decide(begin.check)
    teacher_config(config)
    rundir = RunDir(workdir)
    show_config(console, config, document.config)
    show_facts(console, facts(config, rundir, None, more, pretrained=begin.pretrained))


@contextlib.contextmanager
def open_run(
    config: Config,
    workdir: AnyPath,
    begin: Begin,
    console: Console,
    *,
    document: Document | None = None,
    title: str | None = None,
) -> Iterator[Run]:
    """A new run, or an interrupted one, whose directory is locked inside of the context.

    UserError where config, directory, data or checkpoint do not fit; a new directory is not made then.
    Without a `title`, facts are printed; those of the `document` tell which options are not as it has them.
    """
    started, rundir = time.monotonic(), RunDir(workdir)
    more = document.facts(config) if document else {}
    config, mesh, resumed = resolve_config(config, workdir, begin, console)
    teacher = load_teacher(config, console)
    screen = console if title is None else Console(quiet=True)
    with contextlib.ExitStack() as held:
        prepared = None
        if not resumed:
            prepared = leader.only(lambda: _prepare(config, rundir, begin, teacher, console))
            task = kind_of(config).task(config, prepared) if prepared else None
            config = fitted(config, task, mesh, console, teacher and teacher.config)
        claimed = leader.only(lambda: _claim(config, rundir, begin, teacher, prepared, held, console))
        check_folder, data = claimed or (lambda: None, kind_of(config).open(config, rundir.data))
        task = kind_of(config).task(config, data)
        show_facts(screen, facts(config, rundir, task, more))
        saver = held.enter_context(Checkpoints(rundir.checkpoints, config.checkpoint.keep))
        movement = Movement.of(config, abstract_params(task))
        abstract, optimizer = abstract_state(task, config.optimizer, mesh, begin.pruned(), movement)
        restored = saver.restore(abstract)
        stored = leader.decide(rundir.read_document)
        if sentence := dropped(stored):
            console.print(f"{rundir.config}: {sentence}")
        identity = {"config": digest(stored), "data": data.manifest["identity"]}
        identity |= {"teacher": teacher.fingerprint} if teacher else {}
        if restored is not None:
            _check_belongs(restored, identity, rundir)
        leader.only(lambda: _report(restored, rundir, console))
        yield Run(
            config=config,
            begin=begin,
            rundir=rundir,
            mesh=mesh,
            data=data,
            task=task,
            abstract=abstract,
            optimizer=optimizer,
            saver=saver,
            teacher=teacher,
            identity=identity,
            restored=restored,
            check_folder=check_folder,
            console=console,
            title=title,
            started=started,
            held=held,
        )


def _prepare(
    config: Config, rundir: RunDir, begin: Begin, teacher: LoadedTeacher | None, console: Console
) -> Prepared:
    """The data of a new run, after making sure that it can begin and that its directory can be made."""
    begin.check()
    if not rundir.root.exists() and not is_remote(rundir.root):
        make_folder(rundir.root)
        rundir.root.rmdir()
    return _open_data(config, begin, begin.data_from or rundir, teacher, console)


def _claim(
    config: Config,
    rundir: RunDir,
    begin: Begin,
    teacher: LoadedTeacher | None,
    prepared: Prepared | None,
    held: contextlib.ExitStack,
    console: Console,
) -> tuple[Callable[[], None], Prepared]:
    """Locks the directory until `held` is closed, and writes what a run begins with. Returns `check_folder`
    and the run's own copy of its data."""
    make_folder(rundir.root)
    check_lock = held.enter_context(locked(rundir.root))
    if isinstance(rundir.root, Path):
        remove_leftovers(rundir.root)
    if rundir.config.exists():
        rundir.check_same(config)
    else:
        write_json(rundir.config, dataclasses.asdict(config))

    def check_folder() -> None:
        check_lock()
        if not is_remote(rundir.root) and not rundir.config.exists():
            raise SaveFailed(
                f"{rundir.config} was removed while the run was training: nothing more is written to "
                f"{rundir.root}; put it back and run the same command again, or give a new --workdir"
            )

    source = rundir if rundir.has_data() else begin.data_from or rundir
    data = prepared or _open_data(config, begin, source, teacher, console)
    if not rundir.has_data():
        if is_remote(rundir.data):
            console.print(f"copying the data to {rundir.data}")
        cache.keep(data, rundir.data)
        data = kind_of(config).open(config, rundir.data)
    for path in (rundir.tokenizer, rundir.special_tokens):
        if (source := data.folder / path.name).exists():  # the second only where they are not ours
            write_text(path, read_text(source))
    record_start(rundir, {**begin.record(), **(teacher.record() if teacher else {})})
    return check_folder, data


def _open_data(
    config: Config, begin: Begin, rundir: RunDir, teacher: LoadedTeacher | None, console: Console
) -> Prepared:
    """The run's own data; where it has none yet, they come from the cache or are prepared. UserError where
    they are not for its teacher."""
    data = _own_data(config, begin, rundir, console)
    if teacher:
        teacher.check_data(data.folder)
    return data


def _own_data(config: Config, begin: Begin, rundir: RunDir, console: Console) -> Prepared:
    if rundir.has_data():
        if is_remote(rundir.data):
            console.print(f"data from {rundir.data}")
        return kind_of(config).open(config, rundir.data)
    data = kind_of(config).prepare(config, console, pretrained=begin.pretrained)
    trained_on = saved_data_identity(rundir.checkpoints)
    if trained_on not in (None, data.manifest["identity"]):
        raise UserError(
            f"{rundir.data} is missing, and {data.manifest['source']} is no longer what {rundir.root} was "
            "trained on: put either back"
        )
    return data


def _check_belongs(restored: Restored, identity: dict[str, str], rundir: RunDir) -> None:
    if restored.meta.get("config") != identity["config"]:
        raise UserError(
            f"the checkpoint of step {restored.step:,} in {rundir.checkpoints} is of another run: remove it"
        )
    if restored.meta.get("data") != identity["data"]:
        raise UserError(f"{rundir.data} is not the data of this run: put its own files back")
    check_same_teacher(rundir.root, restored.meta.get("teacher"), identity.get("teacher"))


def _report(restored: Restored | None, rundir: RunDir, console: Console) -> None:
    """Prints where the run continues, and what was lost."""
    lines = read_metrics(rundir.metrics)
    if restored is None:
        if reached := max((line["step"] for line in lines), default=0):
            console.print(f"no checkpoint was saved before step {reached:,}: starting again from step 0")
        return
    for text in restored.refused:
        console.print(f"{text}; it is put aside")
    trained = restored.meta.get("training_seconds", 0.0)
    after = [line["training_seconds"] for line in lines if line["step"] > restored.step]
    again = f", {duration(max(after) - trained)} of training are repeated" if after else ""
    console.print(f"resuming after step {restored.step:,}{again}")
