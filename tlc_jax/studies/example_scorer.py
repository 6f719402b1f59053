"""The score of each example of a set, for paired tests between models."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from tlc_jax.core import stopping
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import on, place, replicated, rows_of
from tlc_jax.tasks.base import Task


class ExampleScorer:
    """Scores the examples of a task's sets with parameters; compiles each shape once."""

    def __init__(self, task: Task, batch_size: int, mesh: Mesh):
        self._task, self._batch_size, self._mesh = task, batch_size, mesh
        self._step = jax.jit(
            on(mesh, lambda params, batch: task.example_scores(params, batch).scores),
            out_shardings=replicated(mesh),
        )

    def __call__(self, params: Params, name: str) -> Float[np.ndarray, "examples"]:
        """The scores of all examples of a set, in the order of the set."""
        scores = np.full(self._task.evaluation_size(name), np.nan)
        indices = self._task.evaluation_examples(name, self._batch_size)
        batches = self._task.evaluation_batches(name, self._batch_size, rows_of(self._mesh))
        for rows, host_batch in zip(indices, batches, strict=True):
            stopping.check()
            batch_scores = np.asarray(self._step(params, place(self._mesh, host_batch)))
            scores[rows[rows >= 0]] = batch_scores[rows >= 0]
        return scores
