"""The metrics of a run's model on the sets that it was tuned on, before and after it is compressed."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.evaluator import TensorEvaluator


class TuningEvaluator:
    """Evaluates tensors in place of a model's own, on the data of its run; `task` is on these data.

    UserError if the model has no data."""

    def __init__(self, model: TrainedModel):
        self.task = task_of(model)
        self.metric = self.task.primary_metric
        self.key = f"eval/{self.task.evaluation_sets()[0]}/{self.metric.name}"
        """Under which the primary metric is found among the metrics."""
        self._evaluate = TensorEvaluator(self.task, model.config, model.mesh)

    def __call__(self, tensors: Tensors) -> dict[str, float]:
        """`{'eval/<set>/<metric>': value}` of all sets that choices are made on."""
        return self._evaluate(tensors)


def task_of(model: TrainedModel) -> Task:
    """The task of a model on the data of its run; UserError if it has none."""
    if is_artifact(model.rundir.root):
        raise UserError(f"{model.rundir.root} is an artifact and has no data to evaluate on: give its run")
    kind = kind_of(model.config)
    return kind.task(model.config, kind.open(model.config, model.rundir.data))


def tuning_evaluator(model: TrainedModel, console: Console) -> TuningEvaluator | None:
    """The evaluator of a model; None, after a message with the reason, if it has no data."""
    try:
        return TuningEvaluator(model)
    except UserError as error:
        console.print(f"not evaluated before and after compression: {error}")
        return None


def report_metrics(before: Mapping[str, float], after: Mapping[str, float], console: Console) -> None:
    """Print a line per set with every metric before and after."""
    sets: dict[str, list[str]] = {}
    for key, value in before.items():
        _, name, metric = key.split("/")
        sets.setdefault(name, []).append(f"{metric} {value:.4g} before, {after[key]:.4g} after")
    for name, metrics in sets.items():
        console.print(f"{name}: {'; '.join(metrics)}")
