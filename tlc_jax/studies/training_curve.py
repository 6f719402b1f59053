"""What trainings reach over their updates, seconds or floating-point operations: curves between whose points
is interpolated, and never beyond them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.item_store import Row
from tlc_jax.studies.picture import logarithmic_x, plain
from tlc_jax.studies.statistics import difference_interval, interval, welch
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "step": "updates",
    "training_seconds": "training seconds",
    "electra_flops": "ELECTRA FLOPs",
    "flops": "exact FLOPs",
    "tokens": "tokens",
}
"""Columns of rows that training costs are counted in."""


@dataclass(frozen=True)
class Cost:
    """What a training has used when it first is as good as a target. Where that is so at its first point
    already, it may have been before: then `at_most` is true."""

    value: float
    at_most: bool


@dataclass(frozen=True)
class Curve:
    """The values of a metric of one training, over a rising and positive cost."""

    costs: Float[np.ndarray, "points"]
    values: Float[np.ndarray, "points"]

    def at(self, cost: float) -> float | None:
        """The value at a cost, by interpolation over its logarithm; None outside of the curve."""
        if not self.costs[0] <= cost <= self.costs[-1]:
            return None
        return float(np.interp(np.log(cost), np.log(self.costs), self.values))

    def cost_of(self, target: float, metric: Metric) -> Cost | None:
        """The least cost at which the curve is as good as the target, by interpolation over its logarithm;
        None where it never is."""
        reached = [metric.reached(float(value), target) for value in self.values]
        if not any(reached):
            return None
        if (first := reached.index(True)) == 0:
            return Cost(float(self.costs[0]), at_most=True)
        before, after = self.values[first - 1 : first + 1]
        part = (target - before) / (after - before)
        start, end = np.log(self.costs[first - 1 : first + 1])
        return Cost(float(np.exp(start + part * (end - start))), at_most=False)


def curves_of(
    rows: Iterable[Row], axis: str, model: Callable[[Row], Any] = lambda row: row["size"]
) -> dict[Any, list[Curve]]:
    """The curves of the trainings of each model over one of `AXES`, one for each seed."""
    points: dict[Any, dict[Any, dict[float, float]]] = {}
    for row in rows:
        points.setdefault(model(row), {}).setdefault(row["seed"], {})[float(row[axis])] = float(row["value"])
    return {name: [_curve(training) for training in seeds.values()] for name, seeds in points.items()}


def _curve(points: dict[float, float]) -> Curve:
    costs = sorted(points)
    return Curve(np.array(costs), np.array([points[cost] for cost in costs]))


@dataclass(frozen=True)
class CostRatio:
    """The cost of a target for one model over that for another: of the geometric means over their trainings,
    with the interval over trainings and the p-value of Welch's test of the logarithms, where both have
    several. Where `at_most`, the ratio may be smaller."""

    value: float
    covered: tuple[float, float] | None
    p: float | None
    at_most: bool

    def __str__(self) -> str:
        between = "" if self.covered is None else f" [{self.covered[0]:.2f}, {self.covered[1]:.2f}]"
        return f"{'at most ' if self.at_most else ''}{self.value:.2f}{between}"


def cost_ratio(
    model: Sequence[Curve], other: Sequence[Curve], target: float, metric: Metric
) -> CostRatio | None:
    """None where a training does not reach the target, or the other model may have reached it before its
    first point."""
    costs, others = ([curve.cost_of(target, metric) for curve in curves] for curves in (model, other))
    reached, reached_others = (list(filter(None, each)) for each in (costs, others))
    if len(reached + reached_others) < len(costs + others) or any(cost.at_most for cost in reached_others):
        return None
    logs, other_logs = (np.log([cost.value for cost in each]) for each in (reached, reached_others))
    covered = difference_interval(logs, other_logs)
    return CostRatio(
        float(np.exp(logs.mean() - other_logs.mean())),
        None if covered is None else (float(np.exp(covered[0])), float(np.exp(covered[1]))),
        welch(logs, other_logs) if min(len(logs), len(other_logs)) > 1 else None,
        any(cost.at_most for cost in reached),
    )


def cost_text(cost: float) -> str:
    """A number of updates, seconds or operations, in three digits at least."""
    return f"{cost:.2e}" if cost >= 1e7 else f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"


def costs_text(costs: Sequence[Cost | None]) -> str:
    """The geometric mean of the costs of trainings, with the interval that covers it over other trainings."""
    reached = [cost for cost in costs if cost is not None]
    if len(reached) < len(costs):
        return f"{len(reached)} of {len(costs)} seeds" if reached else "not reached"
    logs = np.log([cost.value for cost in reached])
    at_most = "at most " if any(cost.at_most for cost in reached) else ""
    text = f"{at_most}{cost_text(float(np.exp(logs.mean())))}"
    if (covered := interval(logs)) is None:
        return text
    low, high = (cost_text(float(np.exp(end))) for end in covered)
    return f"{text} [{low}, {high}]"


def mean_curve(
    curves: Sequence[Curve],
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "trainings points"]]:
    """(costs, values of each training at them) where all trainings have values: at the means of their
    points, or where they have different numbers of them at all of their points."""
    first = max(curve.costs[0] for curve in curves)
    last = min(curve.costs[-1] for curve in curves)
    if len({len(curve.costs) for curve in curves}) == 1:
        costs = np.exp(np.mean([np.log(curve.costs) for curve in curves], axis=0))
    else:
        costs = np.unique(np.concatenate([curve.costs for curve in curves]))
    costs = np.unique(np.clip(costs, first, last))
    return costs, np.array([np.interp(np.log(costs), np.log(c.costs), c.values) for c in curves])


def draw_curves(axes: Axes, curves: Sequence[Curve], label: str, **style: Any) -> None:
    """Draw the mean of trainings over the logarithm of their cost, and the interval that covers it over other
    seeds as a band."""
    costs, values = mean_curve(curves)
    [line] = axes.plot(costs, values.mean(axis=0), label=plain(label), **style)
    bands = [interval(at_cost) for at_cost in values.T]
    if all(bands):
        low, high = zip(*filter(None, bands), strict=True)
        axes.fill_between(costs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    logarithmic_x(axes)
