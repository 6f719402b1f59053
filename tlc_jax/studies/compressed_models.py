"""What the trainings of a study lose by compression, on the reported set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import metric_of, primary, share, size_order, with_gates
from tlc_jax.studies.one_device import compressed_of_one_device
from tlc_jax.studies.statistics import with_interval

DENSE = 32
"""Bits of a model that is not quantized."""
BLEU = "greedy_bleu"
AT_ONCE = ", pruned at once, without the paper's rounds of training (section 4.3)"
ModelKey = tuple[str, str, int, float, bool, float | None]
"""Size, mark, bits, sparsity, whether it was pruned in rounds, and for a dense model that was trained as long
as rounds the sparsity of the last of them."""
_COLUMNS = ("size", "mark", "bits", "sparsity", "recovered", "as_long_as")


def amount_of(sparsity: float, recovered: bool, as_long_as: float | None) -> str:
    """How a model was pruned; '' if it was not."""
    if as_long_as is not None:
        return f"dense, trained as long as {100 * as_long_as:g} % pruned in rounds"
    if not sparsity:
        return ""
    return f"{100 * sparsity:g} % pruned{' in rounds' if recovered else ''}"


def compressed_rows(store: ItemStore) -> list[Row]:
    """The primary metric of each compressed model on the reported set, with its value on the set that choices
    are made on (`tuning`) and, where sentences of that were translated, their BLEU and its set
    (`greedy_bleu`, `bleu_set`); of sizes without variants that were trained equally long on one device, in
    the order of sizes and marks."""
    rows = [row for row in store.rows(stage="compress") if not row["variant"] and not row.get("equal")]
    rows = compressed_of_one_device(rows, store)
    rows = [
        {**row, "recovered": bool(row.get("recovered")), "as_long_as": row.get("as_long_as")} for row in rows
    ]
    bleu = {
        row["item"]: {BLEU: row["value"], "bleu_set": row["set"]} for row in rows if row["metric"] == BLEU
    }
    tuning = {
        row["item"]: row["value"] for row in rows if primary(row) and row.get("role") in ("tuning", "both")
    }
    reported = [row for row in rows if primary(row) and row.get("role") in ("reported", "both")]
    reported.sort(
        key=lambda row: (size_order(row["size"]), share(row["mark"]), row["sparsity"], -row["bits"])
    )
    return with_gates(
        [{**row, **bleu.get(row["item"], {}), "tuning": tuning.get(row["item"])} for row in reported],
        rows,
    )


@dataclass(frozen=True)
class ModelValues:
    """The values of a model by the seed of the training, each the mean over its finetunings, and the BLEU of
    those that were asked to translate. The `sign` is 1 where lower is better, else -1."""

    values: dict[int, float]
    sign: int
    gate: float | None
    bleu: dict[int, float]

    @property
    def passes(self) -> bool:
        """Whether it is better than its gate."""
        return self.better_than_gate(float(np.mean([*self.values.values()])))

    def better_than_gate(self, value: float) -> bool:
        return self.gate is None or self.sign * (self.gate - value) > 0


def models_of(rows: Sequence[Row]) -> dict[ModelKey, ModelValues]:
    """The models of rows, in their order."""
    by_model: dict[ModelKey, list[Row]] = {}
    for row in rows:
        key: Any = tuple(row[column] for column in _COLUMNS)
        by_model.setdefault(key, []).append(row)
    return {key: _model(of_model) for key, of_model in by_model.items()}


def _model(rows: list[Row]) -> ModelValues:
    gate = rows[0].get("gate")
    return ModelValues(
        _by_seed(rows, "value"),
        sign=-1 if metric_of(rows[0]).higher_is_better else 1,
        gate=None if gate is None else float(gate),
        bleu=_by_seed([row for row in rows if row.get(BLEU) is not None], BLEU),
    )


def _by_seed(rows: list[Row], column: str) -> dict[int, float]:
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(int(row["seed"]), []).append(float(row[column]))
    return {seed: float(np.mean(each)) for seed, each in by_seed.items()}


@dataclass(frozen=True)
class Loss:
    """What the trainings of a size lose by one compression, in the unit of the metric; positive is worse.

    `values` are those of the compressed models and `dense` those of the same trainings (`seeds`),
    uncompressed or, after recovery, of their dense controls where there are any (`controlled`). `passes`:
    both are better than their gate. `bleu` and `dense_bleu` are None unless all of these translated.
    """

    size: str
    mark: str
    bits: int
    sparsity: float
    recovered: bool
    seeds: tuple[int, ...]
    values: Float[np.ndarray, "trainings"]
    dense: Float[np.ndarray, "trainings"]
    sign: int
    controlled: bool
    passes: bool
    bleu: Float[np.ndarray, "trainings"] | None
    dense_bleu: Float[np.ndarray, "trainings"] | None

    @property
    def by_training(self) -> Float[np.ndarray, "trainings"]:
        return self.sign * (self.values - self.dense)

    @property
    def mean(self) -> float:
        return float(self.by_training.mean())

    @property
    def share(self) -> float:
        """The loss as a share of the value of the dense model."""
        return self.mean / float(self.dense.mean())

    @property
    def compression(self) -> str:
        bits = f"{self.bits} bits" if self.bits != DENSE else ""
        return " and ".join(filter(None, (amount_of(self.sparsity, self.recovered, None), bits)))

    def __str__(self) -> str:
        return with_interval(self.by_training, "+.4f")


def losses(rows: Sequence[Row]) -> list[Loss]:
    """The losses of all compressed models, in the order of their rows."""
    models = models_of(rows)
    return [loss for key in models if (loss := _loss(key, models)) is not None]


def _loss(key: ModelKey, models: dict[ModelKey, ModelValues]) -> Loss | None:
    size, mark, bits, sparsity, recovered, as_long_as = key
    control = models.get((size, mark, DENSE, 0.0, False, sparsity)) if recovered else None
    model, dense = models[key], control or models.get((size, mark, DENSE, 0.0, False, None))
    if dense is None or as_long_as is not None or (bits == DENSE and not sparsity):
        return None
    seeds = [seed for seed in model.values if seed in dense.values]
    if not seeds:
        return None
    values, uncompressed = (np.array([each.values[seed] for seed in seeds]) for each in (model, dense))
    return Loss(
        *(size, mark, bits, sparsity, recovered, tuple(seeds), values, uncompressed),
        sign=model.sign,
        controlled=control is not None,
        passes=model.passes and dense.passes,
        bleu=_of_seeds(model.bleu, seeds),
        dense_bleu=_of_seeds(dense.bleu, seeds),
    )


def _of_seeds(values: dict[int, float], seeds: list[int]) -> Float[np.ndarray, "trainings"] | None:
    return np.array([values[seed] for seed in seeds]) if values.keys() >= set(seeds) else None
