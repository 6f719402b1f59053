"""`python -m tlc_jax.train --config C --workdir W`: trains a run, or resumes it."""

from __future__ import annotations

import dataclasses
from typing import Optional

from tlc_jax.config import Config
from tlc_jax.config.host_options import HostsOptions
from tlc_jax.core import cli, output
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model; run the same command again to resume an interrupted run.

    Exit codes: 0 done, 2 the input is wrong, 75 interrupted and resumable, 1 anything else.
    """

    workdir: str
    """The run directory, local or gs://...: a new one, or that of a run to resume."""
    settings: cli.Settings[Config]
    config: Optional[str] = None
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    init_from: Optional[str] = None
    """A run, RUN@MARK, RUN@lastN or an artifact: this run begins with its model, parameters and tokenizer."""
    branch_from: Optional[str] = None
    """RUN@MARK, instead of --config: finishes a trunk at one of its marks, with all of its settings."""
    dry_run: bool = False
    """Show config, parameter count, data and destination; compile and write nothing."""
    hosts: HostsOptions = dataclasses.field(default_factory=HostsOptions)


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(Train, argv)
    document = _document(args)
    from tlc_jax.parallel.peers import joined  # jax is imported only when it is needed
    from tlc_jax.runs.begin import Begin, Fresh, InitFrom, parse_branch
    from tlc_jax.runs.facts import Document
    from tlc_jax.runs.open_run import show_run
    from tlc_jax.runs.train_run import train_run
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.training.view import make_console

    workdir = parse_path(args.workdir)
    begin: Begin = Fresh()
    if args.branch_from:
        begin = branch = parse_branch(args.branch_from)
        document = branch.trunk.read_config()
    elif args.init_from:
        begin = InitFrom(args.init_from)
    named = Document(str(args.config or args.branch_from), document)
    with joined(args.hosts):
        if args.dry_run:
            show_run(args.settings, named, workdir, begin, make_console())
        else:
            train_run(args.settings, workdir, begin, document=named)
    output.mention_lost(f"all metrics of the run are in {workdir / 'metrics.jsonl'}")


def _document(args: Train) -> Config:
    """The config as its document has it, before options. UserError where options contradict each other."""
    if (args.config is None) == (args.branch_from is None):
        raise UserError("give either --config with a config document, or --branch-from with RUN@MARK")
    if args.branch_from and (args.init_from or args.settings != Config()):
        raise UserError("--branch-from takes all settings from its trunk: give no others with it")
    document = cli.load_config(args.config, Config) if args.config else Config()
    if args.init_from and args.settings.model != document.model:
        raise UserError("--init-from takes the model from its run: give no --model.* with it")
    if args.init_from and args.settings.data.tokenizer != document.data.tokenizer:
        raise UserError("--init-from takes the tokenizer from its run: give no --data.tokenizer with it")
    return document


if __name__ == "__main__":
    run_command(main)
