"""Measurements of a study by the model that they are of: the values of its seeds, and the gate that it has to
pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.size_families import shape_of
from tlc_jax.studies.statistics import with_interval
from tlc_jax.tasks.metric import NATS_PER_BYTE, Metric

GATES = {
    "two_sided_bigram": "two-sided bigram",
    "target_bigram": "target bigram",
    "linear": "bag of words",
}
"""Models that know only counts, by the beginning of their metrics: a model that is not better has learnt no
more than counts tell."""


def metric_of(row: Row) -> Metric:
    """The primary metric of the task of a row, with its direction."""
    name = str(row["metric_of_task"])
    return Metric(name, bool(row.get("higher_is_better", name != NATS_PER_BYTE.name)))


def primary_fields(metric: Metric) -> dict[str, Any]:
    """What the result of an item says of the primary metric of its task, for `metric_of`."""
    return {"metric_of_task": metric.name, "higher_is_better": metric.higher_is_better}


@dataclass(frozen=True)
class Measured:
    """The values of a metric for the trainings of one model: of several finetunings of a training their mean,
    since they say nothing about another training. `key` says which model it is."""

    key: tuple[Any, ...]
    values: Float[np.ndarray, "trainings"]
    rows: tuple[Row, ...]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def number(self, column: str) -> float:
        """The mean of a column of numbers over the rows."""
        return float(np.mean([float(row[column]) for row in self.rows]))

    def __str__(self) -> str:
        """The mean with its interval over trainings."""
        return with_interval(self.values)


def grouped(rows: Iterable[Row], columns: Sequence[str]) -> list[Measured]:
    """The rows that agree in these columns as one model each, in the order of their first rows."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(column) for column in columns), []).append(row)
    return [Measured(key, _of_trainings(group), tuple(group)) for key, group in groups.items()]


def _of_trainings(rows: list[Row]) -> Float[np.ndarray, "trainings"]:
    trainings: dict[object, list[float]] = {}
    for row in rows:
        trainings.setdefault(row.get("seed"), []).append(float(row["value"]))
    return np.array([np.mean(values) for values in trainings.values()])


def with_gates(rows: list[Row], all_rows: Iterable[Row]) -> list[Row]:
    """The rows, each with the value of its gate (`gate`, and `gate_name`) on its set, where there is one.
    Every variant has its gate: one that is trained on a part of the data has counts of that part."""
    gates: dict[tuple[Any, ...], tuple[str, Any]] = {}
    for row in all_rows:
        for start in GATES:
            if str(row["metric"]).startswith(f"{start}_"):
                metric = str(row["metric"]).removeprefix(f"{start}_")
                gates[_gate_of(row, metric)] = (GATES[start], row["value"])
    named = [(row, gates.get(_gate_of(row, row["metric"]), ("", None))) for row in rows]
    return [{**row, "gate_name": name, "gate": value} for row, (name, value) in named]


def gates_of(store: ItemStore) -> list[str]:
    """The names of the gates that were measured."""
    metrics = {str(row["metric"]) for row in store.rows()}
    return [name for start, name in GATES.items() if any(each.startswith(f"{start}_") for each in metrics)]


def _gate_of(row: Row, metric: str) -> tuple[Any, ...]:
    return row.get("set"), row.get("variant"), metric


def above_gate(models: Iterable[Measured], metric: Metric) -> list[Measured]:
    """The models that are not better than their gate."""

    def passes(model: Measured) -> bool:
        gate = model.rows[0].get("gate")
        return gate is None or metric.better(model.mean, float(gate))

    return [model for model in models if not passes(model)]


def primary(row: Row) -> bool:
    """Whether a row is of the primary metric of its task."""
    return row["metric"] == row.get("metric_of_task")


def share(mark: object) -> float:
    """The share of the budget at which a mark is; 1 of a run without marks."""
    return float(Fraction(str(mark))) if mark else 1.0


def size_order(size: object) -> tuple[int, int]:
    """Sorts sizes such as 2x128: by depth x width squared, which parameters grow with, then by width."""
    depth, width = shape_of(str(size))
    return depth * width**2, width


def tuning_rows(store: ItemStore, wanted: Callable[[Row], bool]) -> list[Row]:
    """The rows of the primary metric on the set that decisions are made on, of those that are wanted."""
    rows = [row for row in store.rows() if wanted(row)]
    sets = {row["set"]: None for row in rows if primary(row)}
    first = next(iter(sets), None)
    return with_gates([row for row in rows if primary(row) and row["set"] == first], store.rows())
