"""What a difference between two accuracies on the same examples is worth."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

LEVEL = 0.05  # of either test, below which a difference counts as one
_SMALLEST = sys.float_info.min


@dataclass(frozen=True)
class Difference:
    """Mean accuracy of one model minus that of another; several seeds of a model are averaged.

    `examples_p` is a paired test over the examples: McNemar's, exact, between two single models, else a
    t-test of what is correct on average over seeds. `seeds_p` is Welch's t-test over the seeds (against
    a single model: a one-sample t-test), None where neither model has several. Where all seeds of each model
    have the same accuracy it is 1: an accuracy is a whole number of examples, so a few seeds agree by chance,
    and how far others would be from them is not known.
    """

    mean: float
    examples_error: float
    seeds_error: float
    examples_p: float
    seeds_p: float | None

    @property
    def resolved(self) -> bool:
        """Whether neither other examples nor other seeds would be likely to turn it round.

        Of two single models nobody can say: another seed of either may be another story.
        """
        return self.examples_p < LEVEL and self.seeds_p is not None and self.seeds_p < LEVEL

    def __str__(self) -> str:
        text = f"{self.mean:+.4f} +- {self.examples_error:.4f} (examples, p = {self.examples_p:.2g})"
        if self.seeds_p is None:
            return text + (
                ", so these two differ" if self.examples_p < LEVEL else ", so no difference is seen"
            )
        if self.seeds_error == 0:
            return text + "; the seeds of each agree, which says nothing of others, not resolved"
        text += f" +- {self.seeds_error:.4f} (seeds, p = {self.seeds_p:.2g})"
        return text + (", resolved" if self.resolved else ", not resolved")


def difference(
    one: Bool[np.ndarray, "seeds_one examples"], other: Bool[np.ndarray, "seeds_other examples"]
) -> Difference:
    """Of two models, from which examples each of their seeds had right."""
    # in whole numbers, so that equal differences are equal
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
    """Standard error of the mean over seeds; 0 for a single one, which says nothing of others, and for seeds
    that agree."""
    return float(stats.sem(accuracies)) if np.ptp(accuracies) else 0.0


def _mcnemar(one: Bool[np.ndarray, "examples"], other: Bool[np.ndarray, "examples"]) -> float:
    """Exact: of the examples that only one of both has right, are as many the one's as the other's?"""
    first, second = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    return _p(stats.binomtest(first, first + second)) if first + second else 1.0


def _t_test(differences: Float[np.ndarray, "examples"]) -> float:
    if np.ptp(differences):
        return _p(stats.ttest_1samp(differences, 0.0))
    # all alike, so a t-test divides by 0: how likely are as many coins that all fall on one side?
    return max(2.0 ** (1 - len(differences)), _SMALLEST) if differences.any() else 1.0


def _seeds_p(one: Float[np.ndarray, "seeds_one"], other: Float[np.ndarray, "seeds_other"]) -> float | None:
    if max(len(one), len(other)) == 1:
        return None
    if np.ptp(one) == np.ptp(other) == 0:
        return 1.0
    if len(one) == 1 or len(other) == 1:
        several, single = (one, other) if len(one) > 1 else (other, one)
        return _p(stats.ttest_1samp(several, float(single[0])))
    # from moments: of seeds that agree exactly `ttest_ind` warns
    moments = [number for own in (one, other) for number in (own.mean(), own.std(ddof=1), len(own))]
    return _p(stats.ttest_ind_from_stats(*moments, equal_var=False))


def _p(result: Any) -> float:
    """A p-value is never 0, only too small for its float."""
    return max(float(result.pvalue), _SMALLEST)
