"""Evaluation: every row of every set exactly once, sums divided once."""

from __future__ import annotations

from collections.abc import Callable

from jax.sharding import Mesh

from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import local_rows, place
from tlc_jax.tasks.base import Sums, Task
from tlc_jax.training.step import compile_evaluation


class Evaluator:
    """Computes `{'eval/<set>/<metric>': value}` for parameters; compiled once, before any clock runs."""

    def __init__(self, task: Task, params: Params, batch_size: int, mesh: Mesh):
        self._task, self._batch_size, self._mesh = task, batch_size, mesh
        self._rows = local_rows(mesh, batch_size)
        self._step: dict[str, Callable[[Params, dict], Sums]] = {}
        for name in task.evaluation_sets():
            first = next(iter(task.evaluation_batches(name, batch_size, self._rows)))
            self._step[name] = compile_evaluation(task, params, place(mesh, first, batch_size), mesh)

    def __call__(self, params: Params) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, step in self._step.items():
            total: dict[str, float] = {}
            for host_batch in self._task.evaluation_batches(name, self._batch_size, self._rows):
                sums = step(params, place(self._mesh, host_batch, self._batch_size))
                for key, value in sums.items():  # float64 on the host: thousands of batches add up
                    total[key] = total.get(key, 0.0) + float(value)
            found |= {f"eval/{name}/{metric}": value for metric, value in self._task.metrics(total).items()}
        return found
