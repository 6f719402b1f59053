"""The config that a run works with: the one that is given or, of an interrupted run, its own."""

from __future__ import annotations

import dataclasses

from jax.sharding import Mesh
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.saved import as_begun, flat
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.data import cache
from tlc_jax.data.location import check_exists, same_path
from tlc_jax.parallel.hosts import leader
from tlc_jax.parallel.mesh import check_divides, make_mesh
from tlc_jax.runs.begin import Begin
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.sealed import read_manifest
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.tensorboard import check_tensorboard


def resolve_config(
    config: Config, workdir: AnyPath, begin: Begin, console: Console, *, dry_run: bool = False
) -> tuple[Config, Mesh, bool]:
    """The config of the run, its mesh, and whether the run exists already.

    UserError where the processes were given different options, or the run is another or incomplete.
    """
    ways = {f"--{name.replace('_', '-')}": value for name, value in begin.record().items()}
    leader.check_same({**flat(config), "--workdir": str(workdir), **ways, "--dry-run": dry_run})
    rundir = RunDir(workdir)
    resumed = leader.decide(rundir.exists)
    config = config if begin.resolved else begin.resolve(config)
    leader.decide(lambda: check_tensorboard(config, workdir))
    if resumed:
        config = _with_micro_batch(_as_begun(config, rundir), rundir, console)
        config, remark = _with_own_paths(config, rundir, begin)
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


def _with_own_paths(config: Config, rundir: RunDir, begin: Begin) -> tuple[Config, str]:
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
    remark = leader.decide(lambda: _no_data_of(config, rundir, begin, compare=not others))
    return (config, remark) if others or remark else (respelt, "")


def _no_data_of(config: Config, rundir: RunDir, begin: Begin, compare: bool) -> str:
    """Why the data that the config names are not the run's own, in parentheses; '' if they are, or if they
    are there and not to be compared."""
    try:
        check_exists(config.data.dir)
    except UserError:
        return f" ({config.data.dir} does not exist)"
    if not compare:
        return ""
    if not rundir.has_data():
        return f" ({rundir.data}, to compare with, is missing)"
    try:
        kind, quiet = kind_of(config), Console(quiet=True)
        identity = cache.identity_if_prepared(
            lambda: kind.prepare(config, quiet, pretrained=begin.pretrained)
        )
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
