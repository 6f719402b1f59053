"""`python -m tlc_jax.train --config C --workdir W` trains a run; `--workdir W` alone resumes it."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tlc_jax.config import Config
from tlc_jax.config.host_options import HostsOptions
from tlc_jax.core import cli, command_line, output
from tlc_jax.core.config_document import load_config
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command

if TYPE_CHECKING:  # jax is imported only when it is needed
    from tlc_jax.training.trackers import Tracker

EVERYDAY = (
    *("workdir", "config", "init_from", "branch_from", "dry_run"),
    *("data.name", "data.dir", "data.train"),
    *("model.num_layers", "model.hidden_size", "batch_size", "micro_batch", "optimizer.learning_rate"),
    *("budget.steps", "budget.training_seconds", "checkpoint.every_steps", "seed"),
)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model. An interrupted run is resumed by its --workdir alone."""

    workdir: str
    """The run directory, local or gs://...: a new one, or that of a run to resume."""
    settings: cli.Settings[Config]
    config: Optional[str] = None
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options. Without
    it, the run in --workdir is resumed with the config that it has."""
    init_from: Optional[str] = None
    """A run, RUN@MARK, RUN@lastN, an artifact, or hf:FOLDER with a BERT or RoBERTa of Hugging Face: this run
    begins with its model, parameters and tokenizer."""
    branch_from: Optional[str] = None
    """RUN@MARK, instead of --config: finishes a trunk at one of its marks, with all of its settings."""
    dry_run: bool = False
    """Show config, parameter count, data and destination; compile and write nothing."""
    hosts: HostsOptions = dataclasses.field(default_factory=HostsOptions)


def main(argv: list[str] | None = None, trackers: Sequence[Tracker] = ()) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    stored = _stored_config(arguments)
    args = cli.parse(Train, arguments, settings=stored, everyday=EVERYDAY)
    from tlc_jax.artifacts.artifact import is_artifact
    from tlc_jax.data.location import check_exists
    from tlc_jax.runs.other_budget import check_budget
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.storage.run_directory import RunDir

    run = RunDir(parse_path(args.workdir))
    if is_artifact(run.root):
        begin_from = f"--config CONFIG --init-from {shlex.quote(args.workdir)} --workdir NEW"
        raise UserError(
            f"--workdir {args.workdir} is an artifact, not a run: to train its model, begin a run with it: "
            f"{command('train')} {begin_from}"
        )
    exists = run.exists()
    document = _document(args, stored)
    if exists:
        check_budget(run, args.settings, arguments)
    elif not args.dry_run:  # which shows whether the data are there
        check_exists(args.settings.data.dir)
    from tlc_jax.parallel.peers import joined
    from tlc_jax.runs.begin import Begin, Fresh
    from tlc_jax.runs.facts import Document
    from tlc_jax.runs.named_begin import parse_branch, parse_init_from, recorded_begin
    from tlc_jax.runs.open_run import show_run
    from tlc_jax.runs.train_run import train_run
    from tlc_jax.training.view import make_console

    begin: Begin = Fresh()
    if args.branch_from:
        begin = branch = parse_branch(args.branch_from)
        document = branch.trunk.read_config()
    elif args.init_from:
        begin = parse_init_from(args.init_from)
    elif stored:
        begin = recorded_begin(run)
    named = Document(str(args.config or args.branch_from or run.config), document)
    with joined(args.hosts):
        if args.dry_run:
            show_run(args.settings, named, run.root, begin, make_console())
        else:
            train_run(args.settings, run.root, begin, document=named, trackers=trackers)
    output.mention_lost(f"all metrics of the run are in {run.metrics}")


def _stored_config(arguments: list[str]) -> Config | None:
    """The config of the run that its folder alone resumes; None where there is none."""
    workdir = command_line.option(arguments, "--workdir")
    if workdir is None or any(command_line.option(arguments, name) for name in ("--config", "--branch-from")):
        return None
    from tlc_jax.storage.paths import parse_path  # takes longer to import than --help may take
    from tlc_jax.storage.run_directory import RunDir

    run = RunDir(parse_path(workdir))
    return run.read_config() if run.config.is_file() else None


def _document(args: Train, stored: Config | None) -> Config:
    """The config as its document has it, before options; `stored` is that of a run that is resumed.
    UserError where options contradict each other."""
    if args.config and args.branch_from:
        raise UserError("--branch-from takes all settings from its trunk: give no --config with it")
    if args.branch_from and (args.init_from or args.settings != Config()):
        raise UserError("--branch-from takes all settings from its trunk: give no others with it")
    if not (args.config or args.branch_from or stored):
        raise UserError(
            f"--workdir {args.workdir} holds no run to resume: to begin one there, give --config with a "
            "config document, such as --config quickstart, or --branch-from with RUN@MARK"
        )
    document = load_config(args.config, Config) if args.config else stored or Config()
    if args.init_from and args.settings.model != document.model:
        raise UserError("--init-from takes the model from what it names: give no --model.*")
    if args.init_from and args.settings.data.tokenizer != document.data.tokenizer:
        raise UserError("--init-from takes the tokenizer from what it names: give no --data.tokenizer")
    return document


if __name__ == "__main__":
    run_command(main)
