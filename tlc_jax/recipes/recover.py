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
from tlc_jax.config import ClassificationConfig, Config
from tlc_jax.core.errors import UserError
from tlc_jax.core.lock import locked
from tlc_jax.core.place import Place, make_folder
from tlc_jax.core.rundir import RunDir
from tlc_jax.core.stacked import split
from tlc_jax.recipes.config import CompressConfig, RecoveryConfig
from tlc_jax.recipes.rules import rules_of
from tlc_jax.tasks.build import make_task, open_data
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.restore import TrainedModel, trained_model
from tlc_jax.training.run import Order, run
from tlc_jax.training.state import Start

ACCURACY = "eval/tuning/accuracy"


@dataclass(frozen=True)
class Round:
    """One level: accuracies on the tuning set, and what recovery took."""

    sparsity: float
    pruned_accuracy: float
    recovered_accuracy: float
    steps: int
    training_seconds: float


def prune_in_rounds(
    root: str, config: CompressConfig, workdir: Place, console: Console
) -> tuple[str, list[Round]]:
    """The run directory of the last round, and what happened in each. The same call goes on where it was
    interrupted, and ends with the same weights."""
    assert config.recovery is not None
    model = trained_model(root, console.print)
    if not isinstance(model.config.task, ClassificationConfig):
        raise UserError(f"{root} is no classification: accuracy can be recovered only where it is measured")
    dense, told, source = _accuracy_of(model), [], model.rundir
    own = _config_of_rounds(model, config.recovery, config.recovery.target * dense)
    console.print(
        f"accuracy before pruning {dense:.4f}, to recover {config.recovery.target * dense:.4f} (tuning)"
    )
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
            told.append(_round(level, RunDir(place)))
            console.print(_words(told[-1]))
    return str(model.rundir.root), told


def _config_of_rounds(model: TrainedModel, recovery: RecoveryConfig, target: float) -> Config:
    """The run's own, for an epoch at most, until the target; its rate falls over that epoch."""
    config = model.config
    task = make_task(config, open_data(config, model.rundir.data))
    steps = math.ceil(recovery.max_epochs / task.epochs(1))
    rate = recovery.learning_rate or config.optimizer.learning_rate
    every = recovery.evaluate_every
    return dataclasses.replace(
        config,
        optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
        schedule=dataclasses.replace(config.schedule, follows="steps"),
        budget=dataclasses.replace(config.budget, steps=steps, training_seconds=None, tokens=None),
        evaluation=dataclasses.replace(config.evaluation, every_steps=every, stop_at_accuracy=target),
        checkpoint=dataclasses.replace(config.checkpoint, marks=""),
    )


def _accuracy_of(model: TrainedModel) -> float:
    """What the run's own evaluation of this step found."""
    for line in read_metrics(model.rundir.metrics):
        if line["step"] == model.step and ACCURACY in line:
            return line[ACCURACY]
    raise UserError(
        f"{model.rundir.metrics} has no evaluation of step {model.step:,}: recover from an evaluated one"
    )


def _round(level: float, rundir: RunDir) -> Round:
    found = [line for line in read_metrics(rundir.metrics) if ACCURACY in line]
    first, last = found[0], found[-1]
    return Round(level, first[ACCURACY], last[ACCURACY], last["step"], last["training_seconds"])


def _words(found: Round) -> str:
    return (
        f"{100 * found.sparsity:g} % pruned: accuracy {found.pruned_accuracy:.4f}, "
        f"after {found.steps:,} updates ({found.training_seconds:.0f} s) {found.recovered_accuracy:.4f}"
    )


def recovery_told(rounds: list[Round]) -> list[dict[str, Any]]:
    """For the manifest of an artifact."""
    return [dataclasses.asdict(found) for found in rounds]
