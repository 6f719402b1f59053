"""`python -m tlc_jax.compress --checkpoint RUN --bits 6 --sparsity 0.45 --out DIR`: a run as an artifact."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Optional

import tyro

from tlc_jax.core import cli
from tlc_jax.core.errors import run_door
from tlc_jax.recipes.config import CompressConfig


@dataclasses.dataclass(frozen=True)
class Compress:
    """Prune and quantize a model, and write it with real bits to a folder that needs no other file."""

    checkpoint: str
    """A run directory, or RUN@MARK for a checkpoint that was kept at a mark."""
    out: str
    """The new folder."""
    settings: Annotated[CompressConfig, tyro.conf.arg(name="")]
    config: Optional[str] = None
    """A recipe's config document: a path, or the bare name of one in configs/."""
    workdir: Optional[str] = None
    """Where the rounds live of a recipe that prunes in rounds; run the same command again to go on with
    them."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(Compress, argv)
    from tlc_jax.core.place import locate
    from tlc_jax.recipes.compress import compress_run, report
    from tlc_jax.training.view import make_console

    console = make_console()
    out = locate(args.out)
    workdir = locate(args.workdir) if args.workdir else None
    report(compress_run(args.checkpoint, args.settings, out, workdir, console), out, console)


if __name__ == "__main__":
    run_door(main)
