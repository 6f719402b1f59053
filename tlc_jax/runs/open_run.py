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
from tlc_jax.config.saved import as_begun, digest, flat
from tlc_jax.core.errors import SaveFailed, UserError, one_line
from tlc_jax.core.progress import duration
from tlc_jax.data import cache
from tlc_jax.data.cache import Prepared
from tlc_jax.data.location import check_exists, same_path
from tlc_jax.parallel.hosts import leader
from tlc_jax.parallel.mesh import check_divides, make_mesh
from tlc_jax.runs.begin import Begin
from tlc_jax.runs.checkpoint import Restored, saved_data_identity, whole_steps
from tlc_jax.runs.facts import Document, facts
from tlc_jax.runs.memory import fitted
from tlc_jax.runs.saving import Checkpoints
from tlc_jax.runs.starts import record_start
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, is_remote, make_folder, remove_leftovers, write_text
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.sealed import is_sealed, read_manifest
from tlc_jax.storage.untrusted import read_text
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.state import Optimizer, TrainState, abstract_state
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
    identity: dict[str, str]
    """Of the config and the data, by which a checkpoint knows its run."""
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
    config, _, resumed = _resolve(config, workdir, begin, console, dry_run=True)
    if not resumed:
        leader.decide(begin.check)
    rundir = RunDir(workdir)
    show_config(console, config, document.config)
    show_facts(console, facts(config, rundir, None, more))


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
    config, mesh, resumed = _resolve(config, workdir, begin, console)
    screen = console if title is None else Console(quiet=True)
    with contextlib.ExitStack() as held:
        prepared = None
        if not resumed:
            prepared = leader.only(lambda: _prepare(config, rundir, begin, console))
            task = kind_of(config).task(config, prepared) if prepared else None
            config = fitted(config, task, mesh, console)
        claimed = leader.only(lambda: _claim(config, rundir, begin, prepared, held, console))
        check_folder, data = claimed or (lambda: None, kind_of(config).open(config, rundir.data))
        task = kind_of(config).task(config, data)
        show_facts(screen, facts(config, rundir, task, more))
        saver = held.enter_context(Checkpoints(rundir.checkpoints, config.checkpoint.keep))
        abstract, optimizer = abstract_state(task, config.optimizer, mesh, begin.pruned())
        restored = saver.restore(abstract)
        stored = leader.decide(rundir.read_document)
        if sentence := dropped(stored):
            console.print(f"{rundir.config}: {sentence}")
        identity = {"config": digest(stored), "data": data.manifest["identity"]}
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
            identity=identity,
            restored=restored,
            check_folder=check_folder,
            console=console,
            title=title,
            started=started,
            held=held,
        )


def _resolve(
    config: Config, workdir: AnyPath, begin: Begin, console: Console, *, dry_run: bool = False
) -> tuple[Config, Mesh, bool]:
    """The config of the run, its mesh, and whether the run exists already."""
    ways = {f"--{name.replace('_', '-')}": value for name, value in begin.record().items()}
    leader.check_same({**flat(config), "--workdir": str(workdir), **ways, "--dry-run": dry_run})
    rundir = RunDir(workdir)
    resumed = leader.decide(rundir.exists)
    config = config if begin.resolved else begin.resolve(config)
    if resumed:
        config = _with_micro_batch(_as_begun(config, rundir), rundir, console)
        config, remark = _with_own_paths(config, rundir)
        rundir.check_same(config, remark)
        leader.decide(lambda: _check_complete(rundir))
    mesh = make_mesh(config.mesh)
    if config.micro_batch != "auto":
        check_divides(mesh, config.rows_at_once, config.rows_at_once_named, kept=resumed)
    return config, mesh, resumed


def _as_begun(config: Config, rundir: RunDir) -> Config:
    """The config with the values of older runs in the fields that this run's config.json does not have."""
    rundir.read_config()  # which says what is wrong with the file
    return as_begun(config, rundir.read_document())


def _with_own_paths(config: Config, rundir: RunDir) -> tuple[Config, str]:
    """The config with the paths of data and tokenizer as the run spells them, where they lead to the same;
    else why they do not, if that is known."""
    stored, given = rundir.read_config().data, config.data
    if type(stored) is not type(given) or (given.dir, given.tokenizer) == (stored.dir, stored.tokenizer):
        return config, ""
    try:
        data = dataclasses.replace(given, dir=stored.dir, tokenizer=stored.tokenizer)
    except ValueError:  # data of another name, which have no such folder
        return config, ""
    respelt = dataclasses.replace(config, data=data)
    if same_path(given.dir, stored.dir) and same_path(given.tokenizer, stored.tokenizer):
        return respelt, ""
    others = bool(rundir.differences(respelt))
    remark = leader.decide(lambda: _no_data_of(config, rundir, compare=not others))
    return (config, remark) if others or remark else (respelt, "")


def _no_data_of(config: Config, rundir: RunDir, compare: bool) -> str:
    """Why the data that the config names are not the run's own, in parentheses; '' if they are, or if they
    are there and not to be compared."""
    try:
        check_exists(config.data.dir)
    except UserError:
        return f" ({config.data.dir} does not exist)"
    if not compare:
        return ""
    if not _has_data(rundir):
        return f" ({rundir.data}, to compare with, is missing)"
    try:
        identity = cache.identity_if_prepared(lambda: kind_of(config).prepare(config, Console(quiet=True)))
    except UserError as error:
        return f" ({one_line(error)})"
    same = identity == read_manifest(rundir.data).get("identity")
    return "" if same else " (what it holds differs from what the run was trained on)"


def _with_micro_batch(config: Config, rundir: RunDir, console: Console) -> Config:
    """The config with the micro-batch that 'auto' stood for when the run began."""
    if config.micro_batch != "auto":
        return config
    try:
        resolved = dataclasses.replace(config, micro_batch=rundir.read_config().micro_batch)
    except ValueError:  # it does not go with another batch_size
        rundir.check_same(config)
        raise
    console.print(f"micro_batch {resolved.at_once:,}, as when the run began")
    return resolved


def _check_complete(rundir: RunDir) -> None:
    """Metrics and checkpoints: a run that has one has the other, from before its first step."""
    reached = max((line["step"] for line in read_metrics(rundir.metrics)), default=0)
    if reached and not rundir.checkpoints.exists():
        raise UserError(
            f"{rundir.checkpoints} is missing though {rundir.metrics} reaches step {reached:,}: put it back, "
            "or give a new --workdir"
        )
    if whole_steps(rundir.checkpoints) and not rundir.metrics.exists():
        raise UserError(
            f"{rundir.metrics} is missing though there are checkpoints: put it back, or create an empty file "
            "to resume without the metrics until now"
        )


def _prepare(config: Config, rundir: RunDir, begin: Begin, console: Console) -> Prepared:
    """The data of a new run, after making sure that it can begin and that its directory can be made."""
    begin.check()
    if not rundir.root.exists() and not is_remote(rundir.root):
        make_folder(rundir.root)
        rundir.root.rmdir()
    return _open_data(config, begin.data_from or rundir, console)


def _claim(
    config: Config,
    rundir: RunDir,
    begin: Begin,
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

    source = rundir if _has_data(rundir) else begin.data_from or rundir
    data = prepared or _open_data(config, source, console)
    if not _has_data(rundir):
        if is_remote(rundir.data):
            console.print(f"copying the data to {rundir.data}")
        cache.keep(data, rundir.data)
        data = kind_of(config).open(config, rundir.data)
    write_text(rundir.tokenizer, read_text(data.folder / "tokenizer.json"))
    record_start(rundir, begin.record())
    return check_folder, data


def _has_data(rundir: RunDir) -> bool:
    """A bucket may hold a part of what was being copied there: it is whole with its manifest."""
    return is_sealed(rundir.data) if is_remote(rundir.data) else rundir.data.exists()


def _open_data(config: Config, rundir: RunDir, console: Console) -> Prepared:
    """The run's own data; where it has none yet, they come from the cache or are prepared."""
    if _has_data(rundir):
        if is_remote(rundir.data):
            console.print(f"data from {rundir.data}")
        return kind_of(config).open(config, rundir.data)
    data = kind_of(config).prepare(config, console)
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
