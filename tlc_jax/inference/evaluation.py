"""Evaluation of a trained model on every set, the reported ones too, each with its baselines beside it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.data_sets import DATA_SETS
from tlc_jax.inference.model_with_data import ModelWithData, with_data
from tlc_jax.inference.predictions import write_predictions
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.storage.paths import parse_path
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import KINDS, kind_of
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.view import make_console


def evaluate_checkpoint(
    reference: str, task: str | None, data_dir: str | None, predictions: str | None
) -> dict[str, Any]:
    """What `evaluate_model` returns, with the checkpoint and its step. UserError if the model was trained for
    another `task`."""
    if task is not None:
        _check_name(task)
    console = make_console(stderr=True)
    loaded = load_model(reference, warn=console.print, packed=True)
    return evaluate_loaded(reference, loaded, console, task, data_dir, predictions)


def evaluate_loaded(
    reference: str,
    loaded: TrainedModel,
    console: Console,
    task: str | None = None,
    data_dir: str | None = None,
    predictions: str | None = None,
) -> dict[str, Any]:
    """`evaluate_checkpoint` of a model that is loaded."""
    model = with_data(loaded, console, data_dir)
    trained_with = model.trained_with
    if task is not None and task not in kind_of(trained_with).task_names(trained_with):
        raise UserError(f"--task {task}, but {reference} was trained for another one")
    _print_notes(model.task, console, predictions)
    if predictions:
        count = write_predictions(model, parse_path(predictions), data_dir)
        console.print(f"{count:,} predictions written to {predictions}", markup=False)
    return {**evaluate_model(model, console), "checkpoint": reference, "step": model.step}


def _check_name(task: str) -> None:
    names = [data_set.name for data_set in DATA_SETS]
    known = [*(kind.name for kind in KINDS), *names, *(name.rpartition("/")[2] for name in names)]
    if task not in known:
        raise UserError(f"--task {task} is no task: give one of {', '.join(dict.fromkeys(known))}")


def _print_notes(task: Task, console: Console, predictions: str | None) -> None:
    """Print which data are not used, and which sets have no labels; UserError where nothing is left to do."""
    for note in task.notes():
        console.print(f"note: {note}", markup=False)
    if task.unlabelled_sets() and not predictions:
        names = ", ".join(task.unlabelled_sets())
        if not (*task.evaluation_sets(), *task.reported_sets()):
            raise UserError(f"{names} has no labels to evaluate on: give --predictions FILE to predict them")
        console.print(f"note: {names} has no labels; --predictions FILE predicts it", markup=False)


def evaluate_model(model: ModelWithData, console: Console) -> dict[str, Any]:
    """`{'eval/<set>/<metric>': value}` of all sets with labels, with the metrics of the texts that the model
    writes, and those of the baselines."""
    task = model.task
    sets = (*task.evaluation_sets(), *task.reported_sets())
    evaluate = Evaluator(task, model.config.at_once, model.mesh)
    results: dict[str, Any] = {}
    for name in sets:
        stopping.check()
        results |= evaluate(model.params, [name])
    for name in sets:
        texts = task.text_metrics(model.params, name, console)
        results |= {f"eval/{name}/{metric}": value for metric, value in texts.items()}
    return {**results, **{f"eval/{name}": value for name, value in task.baselines().items()}}


def print_table(results: dict[str, Any], console: Console) -> None:
    """Print a line for each set; the comparison of two files is one line."""
    lines: dict[str, list[str]] = {}
    for name, value in sorted(results.items()):
        text = f"{value:.4g}" if type(value) is float else str(value)
        if name.startswith("eval/"):
            _, set_name, metric = name.split("/", 2)
            lines.setdefault(set_name, []).append(f"{metric} {text}")
        elif "checkpoint" not in results:
            lines.setdefault("files", []).append(f"{name} {text}")
    for set_name, metrics in lines.items():
        console.print(f"{set_name}: {', '.join(metrics)}")
