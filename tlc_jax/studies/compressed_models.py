"""What the trainings of a study lose by compression, on the reported set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import metric_of, primary, share, size_order, with_gates

DENSE = 32
"""Bits of a model that is not quantized."""
BLEU = "bleu"
_Model = tuple[str, str, int, float, bool, float | None]
_COLUMNS = ("size", "mark", "bits", "sparsity", "recovered", "as_long_as")


def amount_of(sparsity: float, recovered: bool, as_long_as: float | None) -> str:
    """How a model was pruned; '' if it was not."""
    if as_long_as is not None:
        return f"dense, trained as long as {100 * as_long_as:g} % pruned in rounds"
    if not sparsity:
        return ""
    return f"{100 * sparsity:g} % pruned{' in rounds' if recovered else ''}"


def compressed_rows(store: ItemStore) -> list[Row]:
    """The primary metric of each compressed model on the reported set, with its `bleu` where it was decoded;
    of sizes without variants, in the order of sizes and marks."""
    rows = [row for row in store.rows(stage="compress") if not row["variant"]]
    rows = [
        {**row, "recovered": bool(row.get("recovered")), "as_long_as": row.get("as_long_as")} for row in rows
    ]
    bleu = {(row["item"], row["set"]): row["value"] for row in rows if row["metric"] == BLEU}
    reported = [row for row in rows if primary(row) and row.get("role") in ("reported", "both")]
    reported.sort(
        key=lambda row: (size_order(row["size"]), share(row["mark"]), row["sparsity"], -row["bits"])
    )
    return with_gates([{**row, BLEU: bleu.get((row["item"], row["set"]))} for row in reported], rows)


@dataclass(frozen=True)
class Loss:
    """What the trainings of a size lose by one compression, in the unit of the metric; positive is worse.

    `values` are those of the compressed models and `dense` those of the same trainings, in the same order,
    uncompressed or, after recovery, of their dense controls where there are any (`controlled`). Each is the
    mean over the finetunings of a training. `passes`: both are better than their gate.
    """

    size: str
    mark: str
    bits: int
    sparsity: float
    recovered: bool
    seeds: tuple[int, ...]
    values: Float[np.ndarray, "trainings"]
    dense: Float[np.ndarray, "trainings"]
    higher_is_better: bool
    controlled: bool
    passes: bool
    bleu: float | None
    dense_bleu: float | None

    @property
    def by_training(self) -> Float[np.ndarray, "trainings"]:
        return self.dense - self.values if self.higher_is_better else self.values - self.dense

    @property
    def mean(self) -> float:
        return float(self.by_training.mean())

    @property
    def ratio(self) -> float:
        """The loss as a share of the value of the dense model."""
        return self.mean / float(self.dense.mean())

    @property
    def compression(self) -> str:
        bits = f"{self.bits} bits" if self.bits != DENSE else ""
        return " and ".join(filter(None, (amount_of(self.sparsity, self.recovered, None), bits)))


def losses(rows: Sequence[Row]) -> list[Loss]:
    """The losses of all compressed models, in the order of their rows."""
    by_model: dict[_Model, dict[int, list[Row]]] = {}
    for row in rows:
        model: Any = tuple(row[column] for column in _COLUMNS)
        by_model.setdefault(model, {}).setdefault(int(row["seed"]), []).append(row)
    found = (_loss(model, by_model) for model in by_model)
    return [loss for loss in found if loss is not None]


def _loss(model: _Model, by_model: dict[_Model, dict[int, list[Row]]]) -> Loss | None:
    size, mark, bits, sparsity, recovered, as_long_as = model
    control = by_model.get((size, mark, DENSE, 0.0, False, sparsity), {}) if recovered else {}
    dense = control or by_model.get((size, mark, DENSE, 0.0, False, None), {})
    seeds = tuple(seed for seed in by_model[model] if seed in dense)
    if as_long_as is not None or (bits == DENSE and not sparsity) or not seeds:
        return None
    pair = [[rows[seed] for seed in seeds] for rows in (by_model[model], dense)]
    metric, gate = metric_of(pair[0][0][0]), pair[0][0][0].get("gate")
    values, uncompressed = (np.array([_mean(rows, "value") for rows in each]) for each in pair)
    return Loss(
        *(size, mark, bits, sparsity, recovered, seeds, values, uncompressed),
        higher_is_better=metric.higher_is_better,
        controlled=bool(control),
        passes=gate is None
        or all(metric.better(float(each.mean()), float(gate)) for each in (values, uncompressed)),
        bleu=_mean([row for rows in pair[0] for row in rows], BLEU),
        dense_bleu=_mean([row for rows in pair[1] for row in rows], BLEU),
    )


def _mean(rows: Iterable[Row], column: str) -> float | None:
    values = [row[column] for row in rows]
    return None if None in values else float(np.mean(values))
