"""`python -m tlc_jax.train --config C --workdir W`: trains a run, or goes on with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Optional

import tyro

from tlc_jax.config import Config
from tlc_jax.core import cli
from tlc_jax.core.errors import run_door


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model; run the same command again to go on with an interrupted run.

    Exit codes: 0 done, 2 the input is wrong, 75 interrupted and resumable, 1 anything else.
    """

    config: str
    """A config document: a path, or the bare name of one in configs/. Its fields follow as options."""
    workdir: Path
    """The run directory: new, or that of a run to go on with."""
    settings: Annotated[Config, tyro.conf.arg(name="")]
    init_from: Optional[Path] = None
    """A run whose model, parameters and tokenizer this one starts from."""
    dry_run: bool = False
    """Show config, parameter count, data and destination; compile and write nothing."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(Train, argv)
    from tlc_jax.training.run import Order, run  # jax is imported only when it is needed

    document = cli.load_config(args.config, Config)
    run(Order(args.settings, document, args.workdir, args.init_from, args.dry_run))


if __name__ == "__main__":
    run_door(main)
