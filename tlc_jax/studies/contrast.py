"""Weighted sums of the means of several models over their seeds, with their error: whether one difference is
larger than another."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from tlc_jax.studies.statistics import seed_error


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means, its standard error over seeds, and the degrees of freedom of that error
    (Welch-Satterthwaite); the error is None where a model has a single seed."""

    estimate: float
    error: float | None
    freedom: float = 1.0

    def covered(self, share: float = 0.95) -> tuple[float, float] | None:
        """The interval that covers the sum over other seeds with this probability (Student's t)."""
        if not self.error:
            return None
        half = float(stats.t.ppf((1 + share) / 2, self.freedom)) * self.error
        return self.estimate - half, self.estimate + half

    def p_above(self) -> float | None:
        """The one-sided p-value of a sum above 0; None of single seeds, 1 of seeds that agree exactly."""
        if self.error is None:
            return None
        if not self.error:
            return 1.0
        return max(float(stats.t.sf(self.estimate / self.error, self.freedom)), sys.float_info.min)

    def p_either(self) -> float | None:
        """The two-sided p-value of a sum that is not 0."""
        above = Contrast(abs(self.estimate), self.error, self.freedom).p_above()
        return None if above is None else min(1.0, 2 * above)

    def __str__(self) -> str:
        between = "" if (ends := self.covered()) is None else f" [{ends[0]:+.4f}, {ends[1]:+.4f}]"
        return f"{self.estimate:+.4f}{between}"


def contrast(models: Sequence[Float[np.ndarray, "_"]], weights: Sequence[float]) -> Contrast:
    """The sum of the means of models over their seeds, each times its weight. A weight of 0 omits a model."""
    terms = [(values, weight) for values, weight in zip(models, weights, strict=True) if weight]
    estimate = sum(weight * float(np.mean(values)) for values, weight in terms)
    if min(len(values) for values, _ in terms) < 2:
        return Contrast(estimate, None)
    variances = [(weight * seed_error(values)) ** 2 for values, weight in terms]
    if not (total := sum(variances)):
        return Contrast(estimate, 0.0)
    parts = [part**2 / (len(values) - 1) for part, (values, _) in zip(variances, terms, strict=True)]
    return Contrast(estimate, math.sqrt(total), total**2 / sum(parts))
