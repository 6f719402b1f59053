"""`python -m tlc_jax.evaluate RUN`: the metrics of a model on all sets of its task."""

from __future__ import annotations

import dataclasses
from typing import Optional

from tlc_jax.core import cli, output
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError
from tlc_jax.core.json_text import json_text


@dataclasses.dataclass(frozen=True)
class Data:
    dir: Optional[str] = None
    """A folder of data, or one table, instead of the run's own; a table to predict needs no labels."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on all sets of its task, or compare a file of translations with references."""

    checkpoint: cli.Model[Optional[str]] = None
    task: Optional[str] = None
    """The task that the model must have been trained for: mlm, classification, translation, or the name of a
    labelled data set, such as sst2; None: any."""
    data: Data = dataclasses.field(default_factory=Data)
    predictions: Optional[str] = None
    """Of a classification: write the prediction for each example to this file, as JSON lines."""
    hypotheses: Optional[str] = None
    """Instead of RUN: translations, one a line. BLEU and chrF against --references."""
    references: tuple[str, ...] = ()
    """What --hypotheses are compared with, line by line; several files: several references for each line."""
    language: str = "fr"
    """The language of these files, by which they are split into words."""
    json: bool = False
    """Print one JSON object on standard output: eval/<set>/<metric>, checkpoint, step."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Evaluate, argv)
    files = args.hypotheses is not None
    if (args.checkpoint is None) != files or files != bool(args.references):
        raise UserError("give either RUN, or --hypotheses and --references")
    if files and (args.task or args.data.dir or args.predictions):
        raise UserError("--task, --data.dir and --predictions go with RUN, not with --hypotheses")
    from tlc_jax.inference.compare_files import compare_files
    from tlc_jax.inference.evaluation import evaluate_checkpoint, print_table
    from tlc_jax.training.view import make_console

    if args.hypotheses is not None:
        results = compare_files(args.hypotheses, args.references, args.language)
    else:
        results = evaluate_checkpoint(str(args.checkpoint), args.task, args.data.dir, args.predictions)
    print(json_text(results)) if args.json else print_table(results, make_console())
    output.check_delivered()


if __name__ == "__main__":
    run_command(main)
