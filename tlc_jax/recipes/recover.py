"""Iterative pruning with recovery (paper 4.3): prune to a level, finetune until the accuracy is back, go on.

Each round is a run directory of its own, so that it can be interrupted, resumed, evaluated and compressed
like any other; its weights that are pruned stay zero, and its masks contain those of the round before."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.select import prunable
from tlc_jax.config import Config, TranslationConfig
from tlc_jax.config.compression import CompressConfig, RecoveryConfig
from tlc_jax.core.stacked import split
from tlc_jax.recipes.rules import rules_of
from tlc_jax.runs.restore import TrainedModel, trained_model
from tlc_jax.runs.run import Order, run
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, make_folder
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.build import make_task, open_data
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.schedule import noam_rate
from tlc_jax.training.state import Start


@dataclass(frozen=True)
class Round:
    """One level: accuracies on the set that the run is tuned on, and what recovery took."""

    sparsity: float
    pruned_accuracy: float
    recovered_accuracy: float
    steps: int
    training_seconds: float


def prune_in_rounds(
    root: str, config: CompressConfig, workdir: AnyPath, console: Console
) -> tuple[str, list[Round]]:
    """The run directory of the last round, and what happened in each. The same call goes on where it was
    interrupted, and ends with the same weights."""
    assert config.recovery is not None
    model = trained_model(root, console.print)
    task = make_task(model.config, open_data(model.config, model.rundir.data))
    accuracy = f"eval/{task.evaluation_sets()[0]}/accuracy"
    told, source = list[Round](), model.rundir
    rows = model.config.at_once
    dense = Evaluator(task, rows, model.mesh)(model.params, task.evaluation_sets())[accuracy]
    steps = math.ceil(config.recovery.max_epochs / task.epochs(1))
    target = config.recovery.target * dense
    console.print(f"{accuracy} {dense:.4f} before pruning, to recover {target:.4f}")
    own = _config_of_rounds(model, config.recovery, target, steps)
    make_folder(workdir)
    with locked(workdir):
        for level in (level for level in config.recovery.levels if level <= config.sparsity):
            place = workdir / f"pruned-{100 * level:g}"
            chosen = prunable(split(model.params), rules_of(split(model.params), config))
            cap = config.max_tensor_sparsity
            masks = magnitude_masks(chosen, level, config.scope, previous=model.masks, cap=cap)
            start = Start(model.params, masks)
            order = Order(own, own, place, start=start, data_from=source, title=f"{100 * level:g} % pruned")
            run(order, console)
            model = trained_model(str(place), console.print)
            told.append(_round(level, RunDir(place), accuracy))
            console.print(_words(told[-1]))
    return str(model.rundir.root), told


def _config_of_rounds(model: TrainedModel, recovery: RecoveryConfig, target: float, steps: int) -> Config:
    """The run's own, for so many steps at most, until the target; its rate falls over them, from the peak, or
    from where a schedule without an end (`noam_steps`) has come to."""
    config, task = model.config, model.config.task
    rate, noam = config.optimizer.learning_rate, config.schedule.noam_steps
    if noam is not None:
        rate = noam_rate(rate, noam, config.model.hidden_size, model.step)
    rate, every = recovery.learning_rate or rate, recovery.evaluate_every
    if isinstance(task, TranslationConfig):
        task = dataclasses.replace(task, bleu_sentences=0)  # nothing is decided by it
    return dataclasses.replace(
        config,
        task=task,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
        schedule=dataclasses.replace(config.schedule, follows="steps", noam_steps=None),
        budget=dataclasses.replace(config.budget, steps=steps, training_seconds=None, tokens=None),
        evaluation=dataclasses.replace(config.evaluation, every_steps=every, stop_at=target),
        checkpoint=dataclasses.replace(config.checkpoint, marks=""),
    )


def _round(level: float, rundir: RunDir, accuracy: str) -> Round:
    found = [line for line in read_metrics(rundir.metrics) if accuracy in line]
    first, last = found[0], found[-1]
    return Round(level, first[accuracy], last[accuracy], last["step"], last["training_seconds"])


def _words(found: Round) -> str:
    return (
        f"{100 * found.sparsity:g} % pruned: accuracy {found.pruned_accuracy:.4f}, "
        f"after {found.steps:,} updates ({found.training_seconds:.0f} s) {found.recovered_accuracy:.4f}"
    )


def recovery_told(rounds: list[Round]) -> list[dict[str, Any]]:
    """For the manifest of an artifact."""
    return [dataclasses.asdict(found) for found in rounds]
