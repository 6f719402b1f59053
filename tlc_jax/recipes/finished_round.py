"""The result of one round of recovery, from the metrics of its run, and the model that it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from tlc_jax.config.marks import BEST
from tlc_jax.recipes.tuning_evaluator import TuningEvaluator
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.movement import Movement


@dataclass(frozen=True)
class Round:
    """One level: the primary metric on the tuning set after pruning and after recovery, and what recovery
    took."""

    sparsity: float
    metric: str
    pruned: float | None
    """None where weights are pruned while the model recovers."""
    recovered: float
    """The best evaluation, of equals the first."""
    steps: int
    kept_step: int
    """The updates before the best evaluation, whose parameters are kept, and all updates are `steps`."""
    training_seconds: float
    reference: str
    """Names the parameters that are kept, for every command that takes a run."""
    control: float | None = None
    """The metric of the dense model that was trained for as many updates in this round and those before it,
    its best evaluation, too; None: none was trained."""

    def record(self) -> dict[str, Any]:
        """For the manifest of an artifact."""
        return {
            "sparsity": self.sparsity,
            **({} if self.pruned is None else {f"pruned_{self.metric}": self.pruned}),
            f"recovered_{self.metric}": self.recovered,
            "steps": self.steps,
            "kept_step": self.kept_step,
            "training_seconds": self.training_seconds,
            **({} if self.control is None else {f"control_{self.metric}": self.control}),
        }

    def __str__(self) -> str:
        best = "" if self.kept_step == self.steps else f", best after {self.kept_step:,}"
        dense = "" if self.control is None else f"; dense, trained as long, {self.control:.4f}"
        pruned = "" if self.pruned is None else f"{self.pruned:.4f}, "
        return (
            f"{100 * self.sparsity:.4g} % pruned: {self.metric} {pruned}after {self.steps:,} "
            f"updates ({self.training_seconds:.0f} s) {self.recovered:.4f}{best}{dense}"
        )


def finished_round(
    level: float | None, folder: AnyPath, evaluate: TuningEvaluator, console: Console
) -> tuple[TrainedModel, Round]:
    """The model that a finished round keeps, and its result, from its metrics. A round of version 0.1.0 kept
    its last evaluation."""
    rundir = RunDir(folder)
    kept = f"{folder}@{BEST}" if whole_steps(rundir.checkpoints, BEST) else str(folder)
    model = load_model(kept, warn=console.print)
    lines = [line for line in read_metrics(rundir.metrics) if evaluate.key in line]
    first, last = lines[0], lines[-1]
    best = next(line for line in lines if line["step"] == model.step)
    movement = Movement.of(model.config, model.params)
    if level is None and movement is not None:
        pruned = sum(int(np.sum(~mask)) for mask in model.masks.values())
        level = pruned / sum(movement.groups.sizes)
    assert level is not None
    return model, Round(
        sparsity=level,
        metric=evaluate.metric.name,
        pruned=None if movement else first[evaluate.key],
        recovered=best[evaluate.key],
        steps=last["step"],
        kept_step=model.step,
        training_seconds=last["training_seconds"],
        reference=kept,
    )
