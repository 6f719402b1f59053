"""Tests of the difference of two models' accuracies on the same examples."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

LEVEL = 0.05  # a p-value below it counts as significant
_SMALLEST = sys.float_info.min


@dataclass(frozen=True)
class Difference:
    """Mean accuracy of one model minus that of another, each averaged over its seeds.

    `examples_p` is the p-value of a paired test over the examples: McNemar's exact test between two single
    models, else a t-test of the share of seeds that are correct. `seeds_p` is that of Welch's t-test over the
    seeds (a one-sample t-test against a single model); None if neither model has several seeds. It is 1 if
    the seeds of each model agree exactly: an accuracy is a whole number of examples, so a few seeds may agree
    by chance, which says nothing about the variance of others.
    """

    mean: float
    examples_error: float
    seeds_error: float
    examples_p: float
    seeds_p: float | None

    @property
    def resolved(self) -> bool:
        """Whether the difference is significant over both the examples and the seeds; never without several
        seeds of a model, since another seed might reverse it."""
        return self.examples_p < LEVEL and self.seeds_p is not None and self.seeds_p < LEVEL

    def __str__(self) -> str:
        text = f"{self.mean:+.4f} +- {self.examples_error:.4f} (examples, p = {self.examples_p:.2g})"
        if self.seeds_p is None:
            return text + (
                ", so these two differ" if self.examples_p < LEVEL else ", so no difference is seen"
            )
        if self.seeds_error == 0:
            return text + "; the seeds of each agree, which says nothing about other seeds, not resolved"
        text += f" +- {self.seeds_error:.4f} (seeds, p = {self.seeds_p:.2g})"
        return text + (", resolved" if self.resolved else ", not resolved")


def difference(
    one: Bool[np.ndarray, "seeds_one examples"], other: Bool[np.ndarray, "seeds_other examples"]
) -> Difference:
    """The difference of two models, of which each array says for each seed which examples it got right."""
    # computed in integers, so that equal differences are equal
    by_example = one.sum(axis=0) * len(other) - other.sum(axis=0) * len(one)
    by_example = by_example / (len(one) * len(other))
    seeds = one.mean(axis=1), other.mean(axis=1)
    return Difference(
        mean=float(by_example.mean()),
        examples_error=float(stats.sem(by_example)) if len(by_example) > 1 else math.inf,
        seeds_error=math.hypot(*(seed_error(accuracies) for accuracies in seeds)),
        examples_p=_mcnemar(one[0], other[0]) if len(one) == len(other) == 1 else _t_test(by_example),
        seeds_p=_seeds_p(*seeds),
    )


def seed_error(accuracies: Float[np.ndarray, "seeds"]) -> float:
    """Standard error of the mean over seeds; 0 for a single seed, which says nothing about others, and for
    seeds that agree."""
    return float(stats.sem(accuracies)) if np.ptp(accuracies) else 0.0


def _mcnemar(one: Bool[np.ndarray, "examples"], other: Bool[np.ndarray, "examples"]) -> float:
    """McNemar's exact test: are the examples that one model alone gets right evenly split between the two?"""
    first, second = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    return _p(stats.binomtest(first, first + second)) if first + second else 1.0


def _t_test(differences: Float[np.ndarray, "examples"]) -> float:
    if np.ptp(differences):
        return _p(stats.ttest_1samp(differences, 0.0))
    # no variance, so a t-test divides by 0: the probability that as many coins all fall on one side
    return max(2.0 ** (1 - len(differences)), _SMALLEST) if differences.any() else 1.0


def _seeds_p(one: Float[np.ndarray, "seeds_one"], other: Float[np.ndarray, "seeds_other"]) -> float | None:
    if max(len(one), len(other)) == 1:
        return None
    if np.ptp(one) == np.ptp(other) == 0:
        return 1.0
    if len(one) == 1 or len(other) == 1:
        several, single = (one, other) if len(one) > 1 else (other, one)
        return _p(stats.ttest_1samp(several, float(single[0])))
    # from moments, since `ttest_ind` warns about seeds that agree exactly
    moments = [number for each in (one, other) for number in (each.mean(), each.std(ddof=1), len(each))]
    return _p(stats.ttest_ind_from_stats(*moments, equal_var=False))


def _p(result: Any) -> float:
    """The p-value, with those too small for a float raised above 0."""
    return max(float(result.pvalue), _SMALLEST)
