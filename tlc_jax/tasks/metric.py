"""What a model is judged by: a number with a direction. Everything that compares models asks the task for its
primary metric: early stopping, recovery, search, byte budgets, verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Item = TypeVar("Item")
Confusion = Float[np.ndarray, "classes classes_1"]
"""Number of examples by class and predicted class; those in the last column were predicted as none."""


@dataclass(frozen=True)
class Metric:
    """The name under which a metric is reported (`eval/<set>/<name>`), and whether more of it is better."""

    name: str
    higher_is_better: bool
    mean_over_examples: bool = field(default=True, kw_only=True)
    """Whether it is a sum over the examples divided by another one (ExampleScores)."""

    def better(self, value: float, other: float) -> bool:
        """Whether `value` is strictly better than `other`; NaN is worse than every number."""
        if math.isnan(value) or math.isnan(other):
            return math.isnan(other) and not math.isnan(value)
        return bool(value > other if self.higher_is_better else value < other)

    def reached(self, value: float, target: float) -> bool:
        """Whether `value` is at least as good as `target`; NaN never is."""
        return not math.isnan(value) and not self.better(target, value)

    def best(self, items: Iterable[Item], key: Callable[[Item], float]) -> Item:
        """The item with the best value `key(item)`, the first of equals."""
        first, *rest = items
        for item in rest:
            if self.better(key(item), key(first)):
                first = item
        return first

    def share(self, value: float, share: float) -> float:
        """The value that is `share` as good as `value`: 95 % of an accuracy, a loss divided by 0.95."""
        return value * share if self.higher_is_better == (value >= 0) else value / share


@dataclass(frozen=True)
class ConfusionMetric(Metric):
    """A metric of a classification, computed from its confusion matrix."""

    of_confusion: Callable[[Confusion], float]
    mean_over_examples: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class ExampleScores:
    """Scores of the examples of a batch, for paired tests between models: the primary metric of a set is the
    sum of `scores` over the sum of `weights` (where that metric is no mean over examples, such as Matthews
    correlation: the accuracy). Pads have weight 0."""

    scores: Float[Array, "examples"]
    weights: Float[Array, "examples"]

    @property
    def mean(self) -> float:
        return float(jnp.sum(self.scores) / jnp.sum(self.weights))


def accuracy(confusion: Confusion) -> float:
    """Share of the examples that are predicted as their class."""
    return float(np.trace(confusion) / confusion.sum())


def matthews(confusion: Confusion) -> float:
    """Matthews correlation, for any number of classes (Gorodkin 2004, R_K); 0 where either the labels or the
    predictions are all of one class, as in scikit-learn."""
    counts = np.zeros((confusion.shape[1],) * 2)
    counts[:-1] = confusion
    labels, predicted, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    spread = (total**2 - (labels @ labels)) * (total**2 - (predicted @ predicted))
    return float((np.trace(counts) * total - labels @ predicted) / math.sqrt(spread)) if spread > 0 else 0.0


NATS_PER_BYTE = Metric("nats_per_byte", higher_is_better=False)
ACCURACY = ConfusionMetric("accuracy", True, accuracy, mean_over_examples=True)
MATTHEWS = ConfusionMetric("matthews", True, matthews)
CONFUSION_METRICS = {metric.name: metric for metric in (ACCURACY, MATTHEWS)}
"""What a labelled data set may name as its metric (data/labelled/data_sets.py)."""
