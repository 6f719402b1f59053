"""What a classifier predicts for each example: for paired tests between models, and for looking at errors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Integer

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.native import abandonable
from tlc_jax.core.tree import Params
from tlc_jax.data.labelled.labelled_source import NO_LABEL
from tlc_jax.data.tables import table_stem
from tlc_jax.inference.model_with_data import ModelWithData
from tlc_jax.parallel.mesh import batch_sharding, place, replicated, rows_of
from tlc_jax.storage.paths import AnyPath, local_folder, make_folder, write_text, writing
from tlc_jax.tasks.classification import Classification


@dataclass(frozen=True)
class Predictions:
    """Predictions for one set, in the order of its source; in a set without labels the targets are NO_LABEL,
    and no prediction is right."""

    probabilities: Float[np.ndarray, "examples classes"]
    targets: Integer[np.ndarray, "examples"]

    @property
    def classes(self) -> Integer[np.ndarray, "examples"]:
        return self.probabilities.argmax(axis=1)

    @property
    def decided(self) -> Bool[np.ndarray, "examples"]:
        """Where one class is more probable than every other one: no tie, no NaN."""
        largest = self.probabilities.max(axis=1, keepdims=True)
        return (self.probabilities == largest).sum(axis=1) == 1

    @property
    def correct(self) -> Bool[np.ndarray, "examples"]:
        """Where the label is more probable than every other class."""
        return self.decided & (self.classes == self.targets)

    @property
    def accuracy(self) -> float:
        return float(self.correct.mean())


class Predictor:
    """Predicts sets with parameters; compiles each shape once."""

    def __init__(self, task: Classification, batch_size: int, mesh: Mesh):
        self._task, self._batch_size, self._mesh = task, batch_size, mesh
        self._step = jax.jit(
            task.logits,
            in_shardings=(replicated(mesh), batch_sharding(mesh)),
            out_shardings=replicated(mesh),
        )

    def __call__(self, params: Params, name: str) -> Predictions:
        targets = self._task.targets(name)
        logits = np.full((len(targets), len(self._task.label_names)), np.nan, np.float32)
        indices = self._task.evaluation_examples(name, self._batch_size)
        batches = self._task.evaluation_batches(name, self._batch_size, rows_of(self._mesh))
        for rows, host_batch in zip(indices, batches, strict=True):
            stopping.check()
            batch = place(self._mesh, host_batch)
            logits[rows[rows >= 0]] = np.asarray(self._step(params, batch))[rows >= 0]
        return Predictions(softmax(logits), targets)


def softmax(logits: Float[np.ndarray, "examples classes"]) -> Float[np.ndarray, "examples classes"]:
    """Probabilities in float64, in which unequal logits stay unequal."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities become NaN
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def write_predictions(model: ModelWithData, path: AnyPath, data_dir: str | None = None) -> int:
    """Write a JSON line for each example of all sets: its label, and what the model and the linear baseline
    predict. Returns their number. UserError where `path` cannot be written, or is one of the data in
    `data_dir`."""
    if not model.task.label_names:
        raise UserError("--predictions is for classification, which this model was not trained for")
    task = cast(Classification, model.task)
    _check_path(path, data_dir)
    predict = Predictor(task, model.config.at_once, model.mesh)
    lines: list[str] = []
    for name in (*task.evaluation_sets(), *task.reported_sets(), *task.unlabelled_sets()):
        lines += (f"{json.dumps(line)}\n" for line in _lines(task, name, predict(model.params, name)))
    if isinstance(path, Path) and path.exists() and not path.is_file():  # a pipe or a terminal
        with writing(path):  # a pipe may wait for its reader
            abandonable(lambda: path.write_text("".join(lines), encoding="utf-8"))
    else:
        write_text(path, "".join(lines))
    return len(lines)


def _check_path(path: AnyPath, data_dir: str | None) -> None:
    """UserError, before anything is computed, where the result could not be written."""
    if path.is_dir():
        raise UserError(f"--predictions {path} is a folder: name a file")
    make_folder(path.parent)
    if isinstance(path, Path):
        if data_dir is not None and table_stem(path.name) is not None:
            data = local_folder(data_dir, "a --data.dir").resolve()
            if path.resolve() == data or path.parent.resolve() == data:
                raise UserError(
                    f"--predictions {path} would be one of the tables in --data.dir: name a file elsewhere"
                )
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UserError(f"--predictions {path} cannot be written: change its permissions or name another")


def _lines(task: Classification, name: str, predictions: Predictions) -> Iterator[dict[str, object]]:
    """The fields of each example; null is a missing label, a tie, a missing linear baseline, or a probability
    that is not finite."""
    names, linear = task.label_names, task.baseline("linear", name)
    classes = np.where(predictions.decided, predictions.classes, NO_LABEL).tolist()
    for i, (target, predicted) in enumerate(zip(predictions.targets.tolist(), classes, strict=True)):
        stopping.check()
        probabilities = predictions.probabilities[i].tolist()
        yield {
            "set": name,
            "example": i,
            "label": None if target == NO_LABEL else names[target],
            "predicted": None if predicted == NO_LABEL else names[predicted],
            "linear": None if linear is None else names[linear[i]],
            "probabilities": {
                n: round(p, 6) if p == p else None for n, p in zip(names, probabilities, strict=True)
            },
        }
