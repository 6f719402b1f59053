"""`python -m tlc_jax.evaluate --checkpoint RUN`: perplexity or accuracy of a run's newest checkpoint."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal, Optional

from tlc_jax.core import cli
from tlc_jax.core.errors import UserError, run_door


@dataclasses.dataclass(frozen=True)
class Data:
    dir: Optional[str] = None
    """Evaluate on the data that this folder holds, instead of the run's own."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a run on every set of its task, those that training never reads among them."""

    checkpoint: str
    """A run directory, RUN@MARK for a checkpoint that was kept at a mark, or an artifact."""
    task: Optional[Literal["mlm", "sst2", "mnli"]] = None
    """The task that the run must be of; None: whichever it is."""
    data: Data = dataclasses.field(default_factory=Data)
    predictions: Optional[str] = None
    """Of a classification: write what is predicted of each example to this file, one JSON object a line."""
    json: bool = False
    """Print one JSON object on standard output: eval/<set>/<metric>, checkpoint, step."""


TASKS = {"mlm": "held_out", "sst2": "validation", "mnli": "validation_matched"}


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Evaluate, argv)
    from rich.console import Console

    from tlc_jax.core.place import locate
    from tlc_jax.inference.evaluate import evaluate_run, print_table
    from tlc_jax.inference.load import load_model
    from tlc_jax.inference.predict import write_predictions
    from tlc_jax.training.view import make_console

    run = load_model(args.checkpoint, Console(stderr=True), args.data.dir)
    if args.task and TASKS[args.task] not in (*run.task.evaluation_sets(), *run.task.reported_sets()):
        raise UserError(f"--task {args.task}, but {args.checkpoint} was trained on {run.config.data.name}")
    if args.predictions:
        write_predictions(run, locate(args.predictions))
    found = {**evaluate_run(run), "checkpoint": str(args.checkpoint), "step": run.step}
    if args.json:
        print(json.dumps(found))
    else:
        print_table(found, make_console())


if __name__ == "__main__":
    run_door(main)
