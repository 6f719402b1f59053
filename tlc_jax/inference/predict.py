"""What a classifier says of each example: for paired tests between models, and for looking at its errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Integer

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.place import Place, make_folder, write_text
from tlc_jax.core.tree import Params
from tlc_jax.inference.load import LoadedModel
from tlc_jax.parallel.mesh import batch_sharding, place, replicated, rows_of
from tlc_jax.tasks.classification import Classification


@dataclass(frozen=True)
class Predictions:
    """Of one set, in the order in which its source has the examples."""

    probabilities: Float[np.ndarray, "examples classes"]
    targets: Integer[np.ndarray, "examples"]

    @property
    def classes(self) -> Integer[np.ndarray, "examples"]:
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> Bool[np.ndarray, "examples"]:
        """Where the label is more probable than every other: a tie, or NaN, is not right."""
        largest = self.probabilities.max(axis=1, keepdims=True)
        alone = (self.probabilities == largest).sum(axis=1) == 1
        return alone & (self.classes == self.targets)

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


class Predictor:
    """Predicts sets for parameters; compiles each shape once."""

    def __init__(self, task: Classification, batch_size: int, mesh: Mesh):
        self._task, self._batch_size, self._mesh = task, batch_size, mesh
        self._step = jax.jit(
            lambda params, batch: jax.nn.softmax(task.logits(params, batch), axis=-1),
            in_shardings=(replicated(mesh), batch_sharding(mesh)),
            out_shardings=replicated(mesh),
        )

    def __call__(self, params: Params, name: str) -> Predictions:
        targets = self._task.targets(name)
        found = np.full((len(targets), len(self._task.label_names)), np.nan, np.float32)
        places = self._task.evaluation_plan(name, self._batch_size).places
        batches = self._task.evaluation_batches(name, self._batch_size, rows_of(self._mesh))
        for rows, host_batch in zip(places, batches, strict=True):
            batch = place(self._mesh, host_batch)
            found[rows[rows >= 0]] = np.asarray(self._step(params, batch))[rows >= 0]
        return Predictions(found, targets)


def write_predictions(run: LoadedModel, path: Place) -> None:
    """One JSON object an example, of all sets: what it is, what the model and the linear model say."""
    if not isinstance(run.task, Classification):
        raise UserError("--predictions is for classification, which this run was not trained for")
    task, rows = run.task, run.config.at_once
    predict = Predictor(task, rows, run.mesh)
    if path.is_dir():
        raise UserError(f"--predictions {path} is a folder: name a file")
    make_folder(path.parent)
    lines: list[str] = []
    for name in (*task.evaluation_sets(), *task.reported_sets()):
        stopping.check()
        lines += (json.dumps(line) for line in _lines(task, name, predict(run.params, name)))
    write_text(path, "".join(f"{line}\n" for line in lines))


def _lines(task: Classification, name: str, found: Predictions) -> Iterator[dict[str, object]]:
    names, linear = task.label_names, task.baseline("linear", name)
    for i, probabilities in enumerate(found.probabilities):
        yield {
            "set": name,
            "example": i,
            "label": names[found.targets[i]],
            "predicted": names[found.classes[i]],
            "linear": names[linear[i]],
            "probabilities": {n: round(float(p), 6) for n, p in zip(names, probabilities, strict=True)},
        }
