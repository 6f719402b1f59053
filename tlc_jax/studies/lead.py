"""How much better one model ends than another, over trainings with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.item_store import Row
from tlc_jax.studies.statistics import difference_interval, welch
from tlc_jax.tasks.metric import Metric


@dataclass(frozen=True)
class Lead:
    """The mean lead of a model over another, negative where it is worse, with the interval over trainings and
    Welch's p-value: None of a single training. `by_seed` has the lead of each seed."""

    mean: float
    covered: tuple[float, float] | None
    p: float | None
    by_seed: Float[np.ndarray, "seeds"]

    def __str__(self) -> str:
        return _with_interval(self.mean, self.covered)


@dataclass(frozen=True)
class LeadChange:
    """How much larger a lead is than another one, which has other trainings."""

    mean: float
    covered: tuple[float, float] | None
    p: float | None

    def __str__(self) -> str:
        return _with_interval(self.mean, self.covered)


def lead_of(model: Sequence[Row], other: Sequence[Row], metric: Metric) -> Lead | None:
    """The lead of a model over another, from one row for each of their trainings; None where they have no
    seed in common."""
    values, others = ({row["seed"]: float(row["value"]) for row in rows} for rows in (model, other))
    seeds, sign = sorted(values.keys() & others.keys()), 1.0 if metric.higher_is_better else -1.0
    if not seeds:
        return None
    one, two = (sign * np.array([each[seed] for seed in seeds]) for each in (values, others))
    covered, p = difference_interval(one, two), welch(one, two)
    return Lead(float(np.mean(one - two)), covered, p, one - two)


def change_of(lead: Lead, before: Lead) -> LeadChange:
    """The change from a lead `before`."""
    one, two = lead.by_seed, before.by_seed
    p = welch(one, two) if min(len(one), len(two)) > 1 else None
    return LeadChange(lead.mean - before.mean, difference_interval(one, two), p)


def _with_interval(value: float, covered: tuple[float, float] | None) -> str:
    return f"{value:+.4f}" + ("" if covered is None else f" [{covered[0]:+.4f}, {covered[1]:+.4f}]")
