"""The compressed models of a study, the seeds of each together, and which is best for which memory.

Models are chosen on the tuning set; what is reported of a chosen one is its metric on the reported set.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import Result, metric_of
from tlc_jax.studies.statistics import seed_error
from tlc_jax.tasks.metric import ACCURACY, Metric


@dataclass(frozen=True, eq=False)  # compared by identity
class MeasuredModel:
    """A size at a number of bits and a sparsity, in one or several seeds. `tuning` is the mean of the metric
    over the seeds on the tuning set; `values` is the metric of each seed on the reported set, of which
    `correct` tells the examples."""

    size: str
    bits: int
    sparsity: float
    paper_bytes: float
    tuning: float
    values: Float[np.ndarray, "seeds"]
    correct: Bool[np.ndarray, "seeds examples"]
    metric: Metric = ACCURACY

    @property
    def value(self) -> float:
        """The mean of the metric over the seeds, on the reported set."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Over the seeds and, for an accuracy, over the examples in the set; 0 where there is nothing to tell
        it from, such as a single seed of another metric."""
        errors = [seed_error(self.values)]
        if self.metric.name == ACCURACY.name:
            errors.append(math.sqrt(self.value * (1 - self.value) / self.correct.shape[1]))
        return math.hypot(*errors)

    def __str__(self) -> str:
        return f"{self.size} at {self.bits} bits, {100 * self.sparsity:.0f} % pruned"


def compressed_models(store: ResultStore) -> list[MeasuredModel]:
    """All of a study, in the order in which it made them."""
    groups: dict[tuple[str, float, int], list[Result]] = {}
    for result in store.find(stage="compress"):
        groups.setdefault((result["size"], result["sparsity"], result["bits"]), []).append(result)
    return [_model(*key, seeds) for key, seeds in groups.items()]


def _model(size: str, sparsity: float, bits: int, seeds: list[Result]) -> MeasuredModel:
    metric = metric_of(seeds[0])
    return MeasuredModel(
        size=size,
        bits=bits,
        sparsity=sparsity,
        paper_bytes=seeds[0]["paper_bytes"],
        tuning=float(np.mean([seed[f"tuning_{metric.name}"] for seed in seeds])),
        values=np.array([seed[metric.name] for seed in seeds]),
        correct=np.stack([unpack(seed["correct"], seed["examples"]) for seed in seeds]),
        metric=metric,
    )


def ranked(models: Iterable[MeasuredModel]) -> list[MeasuredModel]:
    """The best on the tuning set first; of equals, the smaller first."""

    def order(first: MeasuredModel, second: MeasuredModel) -> int:
        better = first.metric.better
        return better(second.tuning, first.tuning) - better(first.tuning, second.tuning)

    return sorted(sorted(models, key=lambda model: model.paper_bytes), key=functools.cmp_to_key(order))


def best(models: Iterable[MeasuredModel], limit: float = math.inf) -> MeasuredModel | None:
    """The best on the tuning set of those within `limit` bytes, None if there is none."""
    return next(iter(ranked(model for model in models if model.paper_bytes <= limit)), None)


def frontier(models: list[MeasuredModel]) -> list[MeasuredModel]:
    """The best model for each memory: each is better on the tuning set than all smaller ones."""
    chosen = (best(models, model.paper_bytes) for model in sorted(models, key=lambda m: m.paper_bytes))
    return list(dict.fromkeys(model for model in chosen if model is not None))


def pack(correct: Bool[np.ndarray, "examples"]) -> str:
    """One bit per example, in hexadecimal."""
    return np.packbits(correct).tobytes().hex()


def unpack(packed: str, examples: int) -> Bool[np.ndarray, "examples"]:
    """What `pack` was given."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(packed), np.uint8))[:examples].astype(bool)
