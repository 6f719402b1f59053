"""Evaluation of a finished run: every set, the reported ones too, each with its baselines beside it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from tlc_jax.config import PairsConfig
from tlc_jax.core import stopping
from tlc_jax.core.console import SafeConsole
from tlc_jax.core.errors import UserError
from tlc_jax.core.progress import stage
from tlc_jax.inference.load import LoadedModel, load_model
from tlc_jax.inference.predict import write_predictions
from tlc_jax.storage.paths import parse_path
from tlc_jax.tasks.bleu import check_language, scores
from tlc_jax.tasks.classification import Classification
from tlc_jax.tasks.mlm import MaskedLanguageModelling
from tlc_jax.tasks.translation import Translation
from tlc_jax.training.evaluator import Evaluator

TASKS: dict[str, tuple[type, str | None]] = {  # kind, and a set that only this one has
    "mlm": (MaskedLanguageModelling, None),
    "sst2": (Classification, "validation"),
    "mnli": (Classification, "validation_matched"),
    "translation": (Translation, None),
}


def evaluate_checkpoint(
    root: str, task: str | None, data_dir: str | None, predictions: str | None
) -> dict[str, Any]:
    """What `evaluate_run` finds of a model, which one and of which step. UserError if it is of another
    `task`."""
    console = SafeConsole(stderr=True)
    run = load_model(root, console, data_dir)
    _check_task(run, root, task, data_dir)
    if isinstance(run.task, Classification):
        _report_sets(run.task, console, predictions)
    if predictions:
        count = write_predictions(run, parse_path(predictions), data_dir)
        console.print(f"{count:,} predictions written to {predictions}", markup=False)
    return {**evaluate_run(run, console), "checkpoint": root, "step": run.step}


def _check_task(run: LoadedModel, root: str, task: str | None, data_dir: str | None) -> None:
    """A set's name tells apart tasks of one kind, where the data are the run's own."""
    kind, known = TASKS[task] if task else (object, None)
    sets = (*run.task.evaluation_sets(), *run.task.reported_sets())
    if not isinstance(run.task, kind) or (data_dir is None and known not in (None, *sets)):
        raise UserError(f"--task {task}, but {root} was trained for another one")


def _report_sets(task: Classification, console: Console, predictions: str | None) -> None:
    """Says what is not used of the data, and which sets have no labels; UserError where nothing is left to
    do."""
    for note in task.notes():
        console.print(f"note: {note}", markup=False)
    if task.unlabelled_sets() and not predictions:
        names = ", ".join(task.unlabelled_sets())
        if not (*task.evaluation_sets(), *task.reported_sets()):
            raise UserError(f"{names} has no labels to evaluate on: give --predictions FILE to predict them")
        console.print(f"note: {names} has no labels; --predictions FILE predicts it", markup=False)


def evaluate_run(run: LoadedModel, console: Console) -> dict[str, Any]:
    """`{'eval/<set>/<metric>': value}` of all sets with labels, and those of the baselines; of a translation
    with BLEU."""
    rows = run.config.at_once
    evaluate, found = Evaluator(run.task, rows, run.mesh), {}
    for name in (*run.task.evaluation_sets(), *run.task.reported_sets()):
        stopping.check()
        found |= evaluate(run.params, [name])
    if isinstance(run.task, Translation):
        found |= _translated(run, run.task, console)
    return {**found, **{f"eval/{name}": value for name, value in run.task.baselines().items()}}


def _translated(run: LoadedModel, task: Translation, console: Console) -> dict[str, Any]:
    """BLEU of all sets with a beam of 4."""
    data, found = run.config.data, {}
    assert isinstance(data, PairsConfig)
    check_language(data.target)
    decoder = task.decoder(beams=4)
    for name in (*task.evaluation_sets(), *task.reported_sets()):
        sources, references = zip(*task.texts(name), strict=True)
        with stage(console, f"translating {name}", len(sources), "sentences") as told:
            best = decoder.translate(run.params, sources, told)
        own = scores([one[0].text for one in best], [references], data.target)
        found |= {f"eval/{name}/{metric}": value for metric, value in own.items()}
    return found


def print_table(values: dict[str, Any], console: Console) -> None:
    """One line a set; of two files, one line."""
    sets: dict[str, list[str]] = {}
    for name, value in sorted(values.items()):
        told = f"{value:.4g}" if isinstance(value, float) else str(value)
        if name.startswith("eval/"):
            _, own, metric = name.split("/", 2)
            sets.setdefault(own, []).append(f"{metric} {told}")
        elif "checkpoint" not in values:
            sets.setdefault("files", []).append(f"{name} {told}")
    for own, metrics in sets.items():
        console.print(f"{own}: {', '.join(metrics)}")
