"""`python -m tlc_jax.compress --checkpoint RUN --bits 6 --sparsity 0.45 --out DIR`: a run as an artifact."""

from __future__ import annotations

import dataclasses
from typing import Annotated

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
    config: str | None = None
    """A recipe's config document: a path, or the bare name of one in configs/."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(Compress, argv)
    from tlc_jax.core.place import locate
    from tlc_jax.recipes.compress import compress_run, report
    from tlc_jax.training.view import make_console

    console = make_console()
    out = locate(args.out)
    report(compress_run(args.checkpoint, args.settings, out, console), out, console)


if __name__ == "__main__":
    run_door(main)
