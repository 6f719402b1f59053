"""The primary metric of a model on the set that choices were made on, with an interval over its examples."""

from __future__ import annotations

import math

import jax
import numpy as np
import scipy  # whose parts are imported where they are used, which takes a second
from jax.sharding import Mesh
from jaxtyping import Float
from rich.console import Console

from tlc_jax.artifacts.model_record import MetricRecord
from tlc_jax.core.tree import Params
from tlc_jax.parallel.sharding import param_shardings
from tlc_jax.tasks.base import Task
from tlc_jax.training.evaluator import Evaluator
from tlc_jax.training.example_scorer import ExampleScorer

_LEVEL = 0.95


def primary_metric(task: Task, params: Params, batch_size: int, mesh: Mesh) -> MetricRecord:
    """The metric of a model with these parameters; one pass over the set."""
    name, metric = task.evaluation_sets()[0], task.primary_metric
    params = jax.device_put(params, param_shardings(mesh, params, task.family.sharding_rules))
    known: MetricRecord = {
        "name": metric.name,
        "set": name,
        "value": math.nan,
        "examples": task.evaluation_size(name),
    }
    if not metric.mean_over_examples:
        values = Evaluator(task, batch_size, mesh)(params, [name])
        why = f"{metric.name} is no mean over examples"
        return {**known, "value": values[f"eval/{name}/{metric.name}"], "no_interval": why}
    scores, weights = ExampleScorer(task, batch_size, mesh)(params, name)
    known["value"] = float(scores.sum() / weights.sum())
    if len(scores) < 2:
        return {**known, "no_interval": "the set has a single example"}
    return {**known, "interval": list(interval(scores, weights))}


def recorded(measured: MetricRecord, console: Console) -> dict[str, MetricRecord]:
    """The field `metric` of the record of a model; none where a number is not finite, of which JSON has no
    text."""
    numbers = (measured["value"], measured.get("before", 0.0), *measured.get("interval", ()))
    if all(map(math.isfinite, numbers)):
        return {"metric": measured}
    console.print(f"note: the model card has no {measured['name']}, which is not finite")
    return {}


def interval(
    scores: Float[np.ndarray, "examples"], weights: Float[np.ndarray, "examples"]
) -> tuple[float, float]:
    """95 % around sum(scores) / sum(weights) over independent examples: Wilson's of a share of examples that
    are right, else that of the linearized ratio (Cochran 1977, 6.2)."""
    count = len(scores)
    if np.all(weights == 1) and np.all((scores == 0) | (scores == 1)):
        share = scipy.stats.binomtest(int(scores.sum()), count).proportion_ci(_LEVEL, method="wilson")
        return float(share.low), float(share.high)
    ratio = scores.sum() / weights.sum()
    error = math.sqrt(count * np.var(scores - ratio * weights, ddof=1)) / weights.sum()
    low, high = scipy.stats.t.interval(_LEVEL, count - 1, loc=ratio, scale=error) if error else (ratio, ratio)
    return float(low), float(high)
