"""`python -m tlc_jax.train --config C --workdir W`: trains a run, or goes on with it."""

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
    """Train a model; run the same command again to go on with an interrupted run.

    Exit codes: 0 done, 2 the input is wrong, 75 interrupted and resumable, 1 anything else.
    """

    workdir: str
    """The run directory, local or gs://...: new, or that of a run to go on with."""
    settings: cli.Settings[Config]
    config: Optional[str] = None
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    init_from: Optional[str] = None
    """A run whose model, parameters and tokenizer this one starts from."""
    branch_from: Optional[str] = None
    """RUN@MARK, instead of --config: finishes a trunk at one of its marks, with all of its settings."""
    dry_run: bool = False
    """Show config, parameter count, data and destination; compile and write nothing."""
    hosts: HostsOptions = dataclasses.field(default_factory=HostsOptions)


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(Train, argv)
    if (args.config is None) == (args.branch_from is None):
        raise UserError("give either --config with a config document, or --branch-from with RUN@MARK")
    if args.branch_from and (args.init_from or args.settings != Config()):
        raise UserError("--branch-from takes all settings from its trunk: give no others with it")
    from tlc_jax.parallel.peers import joined
    from tlc_jax.runs.branch import parse_branch
    from tlc_jax.runs.run import Order, run  # jax is imported only when it is needed
    from tlc_jax.storage.paths import parse_path

    document = cli.load_config(args.config, Config) if args.config else args.settings
    branch = parse_branch(args.branch_from) if args.branch_from else None
    source = parse_path(args.init_from) if args.init_from else None
    order = Order(args.settings, document, parse_path(args.workdir), source, branch, dry_run=args.dry_run)
    with joined(args.hosts):
        run(order)
    output.mention_lost(f"all that the run told is in {order.workdir / 'metrics.jsonl'}")


if __name__ == "__main__":
    run_command(main)
