"""The metrics of a run's model on the sets that it was tuned on, before and after it is compressed."""

from __future__ import annotations

from collections.abc import Mapping

import jax
from jax.sharding import Mesh
from rich.console import Console

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.config import Config
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors, join
from tlc_jax.parallel.sharding import param_shardings
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.evaluator import Evaluator


class TuningEvaluator:
    """Evaluates tensors by name on the sets of a task that choices are made on. A request to stop is obeyed
    between batches, since there is nothing to save first."""

    def __init__(self, task: Task, config: Config, mesh: Mesh):
        self.task, self.metric, self._mesh = task, task.primary_metric, mesh
        self.key = f"eval/{task.evaluation_sets()[0]}/{self.metric.name}"
        """Under which the primary metric is found among the metrics."""
        self._evaluate = Evaluator(task, config.at_once, mesh, between=stopping.check)

    def __call__(self, tensors: Tensors) -> dict[str, float]:
        """`{'eval/<set>/<metric>': value}`, the primary metric first."""
        params = join(tensors)
        shardings = param_shardings(self._mesh, params, self.task.family.sharding_rules)
        metrics = self._evaluate(jax.device_put(params, shardings), self.task.evaluation_sets())
        return {self.key: metrics[self.key], **metrics}


def evaluator_of(model: TrainedModel) -> TuningEvaluator:
    """The evaluator of a model's tensors, on the data of its run; UserError if it has none."""
    return TuningEvaluator(task_of(model), model.config, model.mesh)


def task_of(model: TrainedModel) -> Task:
    """The task of a model on the data of its run; UserError if it has none."""
    if is_artifact(model.rundir.root):
        raise UserError(f"{model.rundir.root} is an artifact and has no data to evaluate on: give its run")
    kind = kind_of(model.config)
    data = kind.open(model.config, model.rundir.data)
    return kind.task(model.config, data if model.vocabulary is None else data.trimmed(model.vocabulary))


def report_metrics(before: Mapping[str, float], after: Mapping[str, float], console: Console) -> None:
    """Print a line per metric, in the order of `before`."""
    console.print(f"{'quality':28s} {'before':>10s} {'after':>10s}")
    for key, value in before.items():
        name = key.removeprefix("eval/").replace("/", " ", 1)
        console.print(f"  {name:26s} {value:10.4g} {after[key]:10.4g}")
