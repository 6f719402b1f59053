"""Tests of the difference of two models on the same examples, and the correction for how many are made."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # whose parts are imported where they are used, which takes a second
from jaxtyping import Bool, Float

LEVEL = 0.05  # a p-value below it counts as significant
_SMALLEST = sys.float_info.min


@dataclass(frozen=True)
class Difference:
    """The metric of one model minus that of another, each averaged over its seeds.

    The metric is a sum of scores over a sum of weights: an accuracy, or nats per byte. `examples_p` is the
    p-value of a paired test over the examples: McNemar's exact test between two single models that are right
    or wrong, else a t-test (of the linearized ratio, Cochran 1977, 6.2, where weights differ). `seeds_p` is
    that of Welch's t-test over the seeds (a one-sample t-test against a single model); None if neither model
    has several seeds. It is 1 if the seeds of each model agree exactly: an accuracy is a whole number of
    examples, so a few seeds may agree by chance, which says nothing about the variance of others.
    """

    mean: float
    examples_error: float
    seeds_error: float
    examples_p: float
    seeds_p: float | None
    seeds_interval: tuple[float, float] | None = None
    """Covers the difference over other seeds with a probability of 95 % (Welch), where it was asked for."""

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
    one: Bool[np.ndarray, "seeds_one examples"] | Float[np.ndarray, "seeds_one examples"],
    other: Bool[np.ndarray, "seeds_other examples"] | Float[np.ndarray, "seeds_other examples"],
    weights: Float[np.ndarray, "examples"] | None = None,
) -> Difference:
    """The difference of two models, of which each array [seeds, examples] says how each seed scored on each
    example: right or wrong, or a loss. `weights` (None: 1 each) are those of the examples in the metric."""
    if one.dtype == other.dtype == bool:
        # computed in integers, so that equal differences are equal
        by_example = one.sum(axis=0) * len(other) - other.sum(axis=0) * len(one)
        by_example = by_example / (len(one) * len(other))
    else:
        by_example = one.mean(axis=0) - other.mean(axis=0)
    share = np.ones(len(by_example)) if weights is None else weights / weights.mean()
    mean = float(by_example.sum() / share.sum())
    residuals = by_example if weights is None else by_example - mean * (share - 1)  # whose mean is `mean`
    scale = 1.0 if weights is None else 1 / float(weights.mean())
    seeds = [each.mean(axis=1) * scale for each in (one, other)]
    exact = len(one) == len(other) == 1 and one.dtype == other.dtype == bool
    return Difference(
        mean=mean * scale,
        examples_error=float(scipy.stats.sem(residuals)) * scale if len(residuals) > 1 else math.inf,
        seeds_error=math.hypot(*map(seed_error, seeds)),
        examples_p=_mcnemar(one[0], other[0]) if exact else _t_test(residuals),
        seeds_p=_seeds_p(*seeds),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979): with each below a level called significant, all of
    them are right with a probability of one minus that level at least."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def interval(values: Float[np.ndarray, "seeds"], share: float = 0.95) -> tuple[float, float] | None:
    """The interval that covers the mean over other seeds with this probability (Student's t); None for a
    single seed, which says nothing about others."""
    if len(values) < 2:
        return None
    half = float(scipy.stats.t.ppf((1 + share) / 2, len(values) - 1) * scipy.stats.sem(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def with_interval(values: Float[np.ndarray, "seeds"], format: str = ".4f") -> str:
    """The mean, and its interval over seeds where there are several: 0.5000 [0.4000, 0.6000]."""
    text, covered = f"{np.mean(values):{format}}", interval(values)
    return text if covered is None else f"{text} [{covered[0]:{format}}, {covered[1]:{format}}]"


def difference_interval(
    one: Float[np.ndarray, "seeds_one"], other: Float[np.ndarray, "seeds_other"], share: float = 0.95
) -> tuple[float, float] | None:
    """The interval that covers the mean of `one` minus that of `other` over other seeds with this probability
    (Welch); None unless both have several seeds that do not all agree."""
    tested = contrast([(1.0, one), (-1.0, other)])
    return tested and tested.interval(share)


def welch(one: Float[np.ndarray, "seeds_one"], other: Float[np.ndarray, "seeds_other"]) -> float | None:
    """The p-value of Welch's t-test over the seeds of two models; None if neither has several."""
    return _seeds_p(one, other)


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means over seeds, its standard error, and the degrees of freedom of that (Welch and
    Satterthwaite)."""

    mean: float
    error: float
    freedom: float

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """The interval that covers the sum over other seeds with this probability."""
        half = float(scipy.stats.t.ppf((1 + share) / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Of the sum being 0 (Student's t)."""
        return max(2 * float(scipy.stats.t.sf(abs(self.mean) / self.error, self.freedom)), _SMALLEST)

    @property
    def p_positive(self) -> float:
        """Of the sum being 0 or less, against being positive (one-sided)."""
        return max(float(scipy.stats.t.sf(self.mean / self.error, self.freedom)), _SMALLEST)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def contrast(groups: Sequence[tuple[float, Float[np.ndarray, "_"]]]) -> Contrast | None:
    """The sum of the means of independent groups of seeds times their weights; None if a group has a single
    seed, or if the seeds of all groups agree, which says nothing about others. Two groups with the weights
    1 and -1 are Welch's test."""
    if min(len(values) for _, values in groups) < 2:
        return None
    variances = [weight**2 * float(np.var(values, ddof=1)) / len(values) for weight, values in groups]
    if not any(np.ptp(values) for _, values in groups):
        return None
    squares = (v**2 / (len(values) - 1) for v, (_, values) in zip(variances, groups, strict=True))
    return Contrast(
        mean=float(sum(weight * values.mean() for weight, values in groups)),
        error=math.sqrt(sum(variances)),
        freedom=sum(variances) ** 2 / sum(squares),
    )


def seed_error(values: Float[np.ndarray, "seeds"]) -> float:
    """Standard error of the mean over seeds; 0 for a single seed, which says nothing about others, and for
    seeds that agree."""
    return float(scipy.stats.sem(values)) if np.ptp(values) else 0.0


def _mcnemar(one: Bool[np.ndarray, "examples"], other: Bool[np.ndarray, "examples"]) -> float:
    """McNemar's exact test: are the examples that one model alone gets right evenly split between the two?"""
    first, second = int(np.sum(one & ~other)), int(np.sum(other & ~one))
    return _p(scipy.stats.binomtest(first, first + second)) if first + second else 1.0


def _t_test(differences: Float[np.ndarray, "examples"]) -> float:
    if np.ptp(differences):
        return _p(scipy.stats.ttest_1samp(differences, 0.0))
    # no variance, so a t-test divides by 0: the probability that as many coins all fall on one side
    return max(2.0 ** (1 - len(differences)), _SMALLEST) if differences.any() else 1.0


def _seeds_p(one: Float[np.ndarray, "seeds_one"], other: Float[np.ndarray, "seeds_other"]) -> float | None:
    if max(len(one), len(other)) == 1:
        return None
    if np.ptp(one) == np.ptp(other) == 0:
        return 1.0
    if len(one) == 1 or len(other) == 1:
        several, single = (one, other) if len(one) > 1 else (other, one)
        return _p(scipy.stats.ttest_1samp(several, float(single[0])))
    # from moments, since `ttest_ind` warns about seeds that agree exactly
    moments = [number for each in (one, other) for number in (each.mean(), each.std(ddof=1), len(each))]
    return _p(scipy.stats.ttest_ind_from_stats(*moments, equal_var=False))


def _p(result: Any) -> float:
    """The p-value, with those too small for a float raised above 0."""
    return max(float(result.pvalue), _SMALLEST)
