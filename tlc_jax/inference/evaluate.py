"""Evaluation of a finished run: every set, the reported ones too, each with its baselines beside it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from tlc_jax.core import stopping
from tlc_jax.inference.load import LoadedModel
from tlc_jax.training.evaluate import Evaluator


def evaluate_run(run: LoadedModel) -> dict[str, Any]:
    """`{'eval/<set>/<metric>': value}` of all sets, and those of the baselines."""
    rows = run.config.micro_batch or run.config.batch_size
    evaluate, found = Evaluator(run.task, rows, run.mesh), {}
    for name in (*run.task.evaluation_sets(), *run.task.reported_sets()):
        stopping.check()
        found |= evaluate(run.params, [name])
    return {**found, **{f"eval/{name}": value for name, value in run.task.baselines().items()}}


def print_table(values: dict[str, Any], console: Console) -> None:
    """One line a set."""
    sets: dict[str, list[str]] = {}
    for name, value in sorted(values.items()):
        if name.startswith("eval/"):
            _, own, metric = name.split("/", 2)
            sets.setdefault(own, []).append(f"{metric} {value:.4g}")
    for own, metrics in sets.items():
        console.print(f"{own}: {', '.join(metrics)}")
