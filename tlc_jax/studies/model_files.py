"""Models as files: what each compressed model of a study reaches, and its bytes.

A model is chosen on the tuning set and shown on the reported one, on which nothing is chosen; of two models
the difference is tested over the examples and over the trainings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.as_many_bytes import kilobytes
from tlc_jax.studies.compressed_models import amount_of
from tlc_jax.studies.item_store import ItemStore, Row, unpack_scores
from tlc_jax.studies.measured import Measured, above_gate, grouped, primary, size_order, with_gates
from tlc_jax.studies.one_device import compressed_of_one_device
from tlc_jax.studies.statistics import LEVEL, Difference, contrast, difference
from tlc_jax.tasks.metric import Metric

_KEY = ("size", "variant", "mark", "bits", "sparsity", "recovered", "as_long_as")
_OTHER_TRAINING = ("budget.", "data_share")  # variants that are trained for another time or on fewer data


@dataclass(frozen=True, eq=False)  # compared by identity
class ModelFile:
    """A size at a number of bits and a sparsity: what it reaches on the set that it is chosen on, and on the
    reported one."""

    tuning: Measured
    reported: Measured

    @property
    def bytes(self) -> float:
        """Of the file of its weights."""
        return self.reported.number("file_bytes")

    @property
    def size(self) -> str:
        return f"{self.tuning.key[0]} {self.tuning.key[1]}".strip()

    def scores(self) -> tuple[Float[np.ndarray, "trainings examples"], Float[np.ndarray, "examples"]]:
        """The scores of each training, the mean over its finetunings, and the weights of the examples."""
        trainings: dict[object, list[np.ndarray]] = {}
        weights = np.zeros(0)
        for row in self.reported.rows:
            scores, weights = unpack_scores({"scores": row["scores"], "weights": row["weights"]})
            trainings.setdefault(row["seed"], []).append(scores)
        return np.stack([np.mean(scores, axis=0) for scores in trainings.values()]), weights

    @property
    def reached(self) -> str:
        """Its value on the reported set, and its bytes."""
        return f"{self}, {self.reported}, {kilobytes(self.bytes)}"

    def __str__(self) -> str:
        return f"{self.size} at {self.tuning.key[3]} bits{self.amount and f', {self.amount}'}"

    @property
    def bits_per_weight(self) -> float:
        """Without what a sparse tensor takes to say which weights it has (paper, footnote 7)."""
        return self.tuning.key[3] * (1 - self.tuning.key[4])

    @property
    def amount(self) -> str:
        """What was done before quantization; '' if nothing."""
        return amount_of(*self.tuning.key[4:])


def file_rows(store: ItemStore) -> list[Row]:
    """The primary metric of each compressed model on its tuning and on its reported set, with the scores of
    the examples of the latter; of trainings of one device, in the order of sizes."""
    rows: list[Row] = []
    for result in store.results():
        if result["stage"] != "compress":
            continue
        for row in result["rows"]:
            whole: Row = {**result["fields"], **row}
            whole |= {"recovered": bool(whole.get("recovered")), "as_long_as": whole.get("as_long_as")}
            if primary(whole) and row.get("role"):
                rows.append({**whole, **result.get("examples", {}).get(str(row["set"]), {})})
    rows.sort(key=_order)
    return with_gates(compressed_of_one_device(rows, store), store.rows(stage="compress"))


def _order(row: Row) -> tuple[object, ...]:
    """Of equal models, those that were not trained again come first: they are the ones that are named."""
    again = row["as_long_as"] is not None, row["recovered"]
    return size_order(row["size"]), row["variant"], row["sparsity"], again, -row["bits"]


def as_long(row: Row) -> bool:
    """Whether a model was trained as long as the others on all data, and not again after compression."""
    again = row["recovered"] or row["as_long_as"] is not None
    return not (again or row.get("equal") or any(name in row["variant"] for name in _OTHER_TRAINING))


def files_of(rows: list[Row]) -> list[ModelFile]:
    """The models of rows, in their order."""
    sets: dict[str, dict[tuple[object, ...], Measured]] = {"tuning": {}, "reported": {}}
    for role, models in sets.items():
        chosen = [row for row in rows if row["role"] in (role, "both")]
        models |= {model.key: model for model in grouped(chosen, _KEY)}
    return [ModelFile(model, sets["reported"][key]) for key, model in sets["tuning"].items()]


def ranked(models: list[ModelFile], metric: Metric) -> list[ModelFile]:
    """The best on the tuning set first; of equals, the smaller first."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(models, key=lambda model: (sign * model.tuning.mean, model.bytes))


def gated_files(models: list[ModelFile], metric: Metric) -> list[Measured]:
    """Those that are no better than their gate, on the reported set."""
    return above_gate([model.reported for model in models], metric)


def file_difference(one: ModelFile, other: ModelFile) -> Difference:
    """The metric of the first minus that of the second: tested over the examples of the reported set, and
    over trainings only where both have several: a single one says nothing about another."""
    (scores, weights), (others, _) = one.scores(), other.scores()
    made = difference(scores, others, weights)
    if min(len(scores), len(others)) == 1:
        return replace(made, seeds_p=None)
    tested = contrast(
        [(sign, each.mean(axis=1) / weights.mean()) for sign, each in ((1.0, scores), (-1.0, others))]
    )
    return replace(made, seeds_interval=tested and tested.interval())


def judged(measured: Difference, examples_p: float, trainings_p: float) -> str:
    """A difference with what its tests say, whose p-values are corrected for their number."""
    examples = f"over examples standard error {measured.examples_error:.4f}, p = {examples_p:.2g}"
    if measured.seeds_p is None:
        return f"{measured.mean:+.4f} ({examples}), a single training, so another may turn it"
    covered = measured.seeds_interval
    text = "" if covered is None else f" [{covered[0]:+.4f}, {covered[1]:+.4f}]"
    resolved = "resolved" if examples_p < LEVEL and trainings_p < LEVEL else "not resolved"
    return f"{measured.mean:+.4f}{text} (over trainings p = {trainings_p:.2g}; {examples}), {resolved}"
