"""`python -m tlc_jax.compress RUN --bits 6 --sparsity 0.45 --out DIR`: a run as an artifact."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from tlc_jax.config.compression import OF_FOLDERS, CompressConfig
from tlc_jax.core import cli, command_line
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command

EVERYDAY = (
    *("checkpoint", "out", "hf", "config", "workdir", "bits", "sparsity", "granularity", "range"),
    *("heads", "feed_forward_size", "target_mb", "max_drop", "coding"),
)


_FORMER = {"--zstd": ("--coding", "zstd"), "--no-zstd": ("--coding", "plain")}
"""Options of earlier versions, in scripts that people have."""


@dataclasses.dataclass(frozen=True)
class Compress:
    """Prune and quantize a model, and write it in packed bits to a folder that needs no other file."""

    out: str
    """The folder to create."""
    settings: cli.Settings[CompressConfig]
    checkpoint: cli.Model[Optional[str]] = None
    hf: Optional[str] = None
    """In place of RUN: a folder with .safetensors files of any model. Unless options say otherwise,
    groups of 64 weights share a range of least squares, and vectors stay float32; with --config, the document
    says all that options do not."""
    config: Optional[str] = None
    """A recipe's config document: a path, or the bare name of one in configs/."""
    workdir: Optional[str] = None
    """The folder for the runs of a recipe that prunes in rounds; the same command resumes them."""


def main(argv: list[str] | None = None) -> None:
    given = sys.argv[1:] if argv is None else argv
    arguments = [word for argument in given for word in _FORMER.get(argument, (argument,))]
    hf, document = (command_line.option(arguments, name) for name in ("--hf", "--config"))
    settings = OF_FOLDERS if hf and not document else None
    args = cli.parse(Compress, arguments, settings=settings, everyday=EVERYDAY)
    from tlc_jax.compression.pipeline import recipe_of
    from tlc_jax.recipes.compress_folder import compress_folder
    from tlc_jax.recipes.compress_run import compress_run, report
    from tlc_jax.recipes.recover import trains
    from tlc_jax.storage.claim import claimed
    from tlc_jax.storage.paths import parse_path
    from tlc_jax.training.view import make_console

    if (args.checkpoint is None) == (args.hf is None):
        raise UserError("give either RUN or --hf FOLDER")
    console, out = make_console(), parse_path(args.out)
    workdir = parse_path(args.workdir) if args.workdir else None
    if workdir is not None and not trains(recipe_of(args.settings)):
        raise UserError("--workdir is for rounds of pruning, and this recipe has none: omit it")
    with claimed(out):
        if args.checkpoint is None:
            manifest = compress_folder(Path(args.hf or ""), args.settings, out, console)
        else:
            manifest = compress_run(args.checkpoint, args.settings, out, workdir, console)

    def advice(better: Mapping[str, str | None]) -> str:
        return f"{command('compress')} {command_line.changed(arguments, better)}"

    report(manifest, args.settings, out, console, advice)


if __name__ == "__main__":
    run_command(main)
