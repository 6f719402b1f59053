"""The best evaluation of a run until now, which its lines of metrics carry along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlc_jax.tasks.metric import Metric


def best_until(step: int, value: float, metric: Metric, before: Mapping[str, Any] | None) -> dict[str, float]:
    """The fields `best_step` and `best_value` of the line of an evaluation after `step`, which has found
    `value`; `before` is the line of the evaluation before it. Of equal values the first is the best."""
    if before is None or "best_value" not in before or metric.better(value, before["best_value"]):
        return {"best_step": step, "best_value": value}
    return {name: before[name] for name in ("best_step", "best_value")}
