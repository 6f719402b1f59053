"""Evaluation: every example of every set exactly once, sums divided once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import place, rows_of
from tlc_jax.tasks.base import Task
from tlc_jax.training.step import make_evaluation_step


class Evaluator:
    """Computes `{'eval/<set>/<metric>': value}` for parameters; each shape of batch is compiled at its first.

    With `decode`, metrics of texts that the model writes are computed too. `between` is called before every
    batch."""

    def __init__(
        self,
        task: Task,
        batch_size: int,
        mesh: Mesh,
        *,
        decode: bool = False,
        between: Callable[[], None] = lambda: None,
    ):
        self._task, self._batch_size, self._mesh, self._decode = task, batch_size, mesh, decode
        self._between = between
        self._step = make_evaluation_step(task, mesh)

    def __call__(self, params: Params, sets: Sequence[str]) -> dict[str, float]:
        values: dict[str, float] = {}
        for name in sets:
            total: dict[str, Any] = {}
            for host_batch in self._task.evaluation_batches(name, self._batch_size, rows_of(self._mesh)):
                self._between()
                sums = self._step(params, place(self._mesh, host_batch))
                for key, value in jax.device_get(sums).items():  # in float64: thousands of batches add up
                    total[key] = total.get(key, 0.0) + (value.astype(float) if value.ndim else float(value))
            metrics = self._task.metrics(total)
            if self._decode:
                metrics |= self._task.decoded(params, name)
            values |= {f"eval/{name}/{metric}": value for metric, value in metrics.items()}
        return values
