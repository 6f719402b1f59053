"""Models of a study with all of their evaluations, compared where their trainings end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.lead import Lead, lead_of
from tlc_jax.studies.measured import Measured, above_gate, grouped
from tlc_jax.studies.measured import share as share_of_budget
from tlc_jax.studies.one_device import of_one_device
from tlc_jax.tasks.metric import Metric


def with_ends(rows: Iterable[Row], store: ItemStore) -> list[Row]:
    """The evaluations of runs whose seconds are those of one device: of branches the last ones, else all of a
    run. `end` says whether a row is the last one of its training, at the last of all marks; `loss` is the
    loss on the same set."""
    rows = [row for row in rows if row["step"] > 0 and (row["stage"] == "train" or row["last"])]
    branched = {_training(row) for row in rows if row["stage"] == "branch"}
    rows = [row for row in rows if (row["stage"] == "branch") == (_training(row) in branched)]
    losses = {_point(row): row["value"] for row in store.rows(metric="loss")}
    last_mark = max((share_of_budget(row["mark"]) for row in rows), default=1.0)
    rows = [
        {
            **row,
            "end": bool(row["last"]) and share_of_budget(row["mark"]) == last_mark,
            "loss": losses.get(_point(row)),
        }
        for row in rows
    ]
    return of_one_device(rows, store)


def _training(row: Row) -> tuple[Any, ...]:
    return row["size"], row["variant"], row["seed"]


def _point(row: Row) -> tuple[Any, ...]:
    return row["item"], row["set"], row["step"]


@dataclass(frozen=True)
class EvaluatedModel:
    """What the trainings of a model have been evaluated at, and at their ends. `key` says which model it
    is."""

    key: tuple[Any, ...]
    rows: tuple[Row, ...]
    end: Measured

    def number(self, column: str) -> float | None:
        """The mean of a column over the ends of the trainings; None where one lacks it."""
        return None if any(row.get(column) is None for row in self.end.rows) else self.end.number(column)

    @property
    def gap(self) -> float | None:
        """How far the loss on the set is above that of the last updates, in nats a prediction."""
        loss, training = self.number("loss"), self.number("training_loss")
        return None if loss is None or training is None else loss - training

    def passes(self, metric: Metric) -> bool:
        """Whether one of its evaluations, in the mean over trainings, is better than its gate."""
        points = grouped(self.rows, ("mark",) if self.rows[0]["stage"] == "branch" else ("step",))
        return len(above_gate(points, metric)) < len(points)

    def best(self, metric: Metric) -> float:
        """The mean over trainings of the best evaluation of each."""
        values: dict[Any, list[float]] = {}
        for row in self.rows:
            values.setdefault(row["seed"], []).append(float(row["value"]))
        return float(np.mean([best_of(each, metric) for each in values.values()]))


def evaluated_models(rows: Iterable[Row], columns: Sequence[str]) -> list[EvaluatedModel]:
    """The models whose rows (`with_ends`) agree in these columns, in the order of their first rows; those of
    which no training has ended yet are left out."""
    models = []
    for model in grouped(rows, columns):
        for end in grouped((row for row in model.rows if row["end"]), columns):
            models.append(EvaluatedModel(model.key, model.rows, end))
    return models


def best_of(values: Iterable[float], metric: Metric) -> float:
    return float((max if metric.higher_is_better else min)(values))


def lead_at_end(model: EvaluatedModel, other: EvaluatedModel, metric: Metric) -> Lead | None:
    """The lead of a model over another at the end of their trainings; None where one of them is no better
    than its gate."""
    if not (model.passes(metric) and other.passes(metric)):
        return None
    return lead_of(model.end.rows, other.end.rows, metric)
