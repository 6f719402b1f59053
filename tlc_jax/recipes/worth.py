"""What a run is worth on the sets that it was tuned on, before and after it is compressed."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import Tensors
from tlc_jax.recipes.sensitivity import own_task
from tlc_jax.runs.restore import TrainedModel
from tlc_jax.tasks.base import Task
from tlc_jax.training.evaluator import TensorEvaluator


class Worth:
    """Metrics of tensors in the place of a run's own, on the run's own data, which are opened once."""

    def __init__(self, model: TrainedModel, tensors: Tensors):
        self.task: Task = own_task(model)
        self._evaluate = TensorEvaluator(self.task, model.config, model.mesh)
        self.dense = self(tensors)

    def __call__(self, tensors: Any) -> dict[str, float]:
        return self._evaluate(tensors)


def worth_of(model: TrainedModel, tensors: Tensors, console: Console) -> Worth | None:
    """None, and a sentence, where there is nothing to measure with."""
    try:
        return Worth(model, tensors)
    except UserError as error:
        console.print(f"not measured before and after: {error}")
        return None
