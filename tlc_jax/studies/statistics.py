"""What a difference between two accuracies on the same examples is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

LEVEL = 0.05  # of either test, below which a difference counts as one


@dataclass(frozen=True)
class Difference:
    """Mean accuracy of one model minus that of another; several seeds of a model are averaged.

    `examples_p` is a paired test over the examples: McNemar's, exact, between two single models, else a
    t-test of what is correct on average over seeds. `seeds_p` is Welch's t-test over the seeds (against
    a single model: a one-sample t-test), None where neither model has several.
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
        text += f" +- {self.seeds_error:.4f} (seeds, p = {self.seeds_p:.2g})"
        return text + (", resolved" if self.resolved else ", not resolved")


def difference(
    one: Bool[np.ndarray, "seeds_one examples"], other: Bool[np.ndarray, "seeds_other examples"]
) -> Difference:
    """Of two models, from which examples each of their seeds had right."""
    by_example = one.mean(axis=0) - other.mean(axis=0)
    seeds = one.mean(axis=1), other.mean(axis=1)
    return Difference(
        mean=float(by_example.mean()),
        examples_error=float(stats.sem(by_example)),
        seeds_error=math.hypot(*(seed_error(accuracies) for accuracies in seeds)),
        examples_p=_mcnemar(one[0], other[0]) if len(one) == len(other) == 1 else _t_test(by_example),
        seeds_p=_seeds_p(*seeds),
    )


def seed_error(accuracies: Float[np.ndarray, "seeds"]) -> float:
    """Standard error of the mean over seeds; 0 for a single one, which says nothing of others."""
    return float(stats.sem(accuracies)) if len(accuracies) > 1 else 0.0


def _mcnemar(one: Bool[np.ndarray, "examples"], other: Bool[np.ndarray, "examples"]) -> float:
    """Exact: of the examples that only one of both has right, are as many the one's as the other's?"""
    first, second = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    return _p(stats.binomtest(first, first + second)) if first + second else 1.0


def _t_test(differences: Float[np.ndarray, "examples"]) -> float:
    return _p(stats.ttest_1samp(differences, 0.0)) if differences.any() else 1.0


def _seeds_p(one: Float[np.ndarray, "seeds_one"], other: Float[np.ndarray, "seeds_other"]) -> float | None:
    if max(len(one), len(other)) == 1:
        return None
    if max(np.ptp(one), np.ptp(other)) < 1e-12:  # a t-test of numbers that do not vary is none
        return float(abs(one.mean() - other.mean()) < 1e-12)
    if len(one) == 1 or len(other) == 1:
        several, single = (one, other) if len(one) > 1 else (other, one)
        return _p(stats.ttest_1samp(several, float(single[0])))
    # from moments: of seeds that agree exactly `ttest_ind` warns
    moments = [number for own in (one, other) for number in (own.mean(), own.std(ddof=1), len(own))]
    return _p(stats.ttest_ind_from_stats(*moments, equal_var=False))


def _p(result: Any) -> float:
    return float(result.pvalue)
