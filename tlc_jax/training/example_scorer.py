"""The score of each example of a set, for paired tests between models."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from tlc_jax.core import stopping
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import on, place, replicated, rows_of
from tlc_jax.tasks.base import Batch, Task


class ExampleScorer:
    """Scores the examples of a task's sets with parameters; compiles each shape once."""

    def __init__(self, task: Task, batch_size: int, mesh: Mesh):
        self._task, self._batch_size, self._mesh = task, batch_size, mesh

        def scores(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
            scored = task.example_scores(params, batch)
            return scored.scores, scored.weights

        self._step = jax.jit(on(mesh, scores), out_shardings=replicated(mesh))

    def __call__(
        self, params: Params, name: str
    ) -> tuple[Float[np.ndarray, "examples"], Float[np.ndarray, "examples"]]:
        """The scores of all examples of a set and their weights, in the order of the set: the task's primary
        metric is the sum of the scores over that of the weights, where it is a mean over examples."""
        scores, weights = (np.full(self._task.evaluation_size(name), np.nan) for _ in range(2))
        indices = self._task.evaluation_examples(name, self._batch_size)
        batches = self._task.evaluation_batches(name, self._batch_size, rows_of(self._mesh))
        for rows, host_batch in zip(indices, batches, strict=True):
            stopping.check()
            computed = self._step(params, place(self._mesh, host_batch))
            for values, batch_values in zip((scores, weights), computed, strict=True):
                values[rows[rows >= 0]] = np.asarray(batch_values)[rows >= 0]
        return scores, weights
