"""How far a scaling law may be wrong: intervals of its constants and of what it predicts.

Three errors are added. Constants vary as they do over resampled residuals (bootstrap over the points and,
where a size has several seeds, over its trainings). A law that is fitted to short trainings may miss longer
ones in one direction: how far is measured on the pilot itself, by predicting the longest training of each
size from the shorter ones. And a size that was not trained is predicted as badly as each of those that
were is predicted from the others. The last two are known from a few sizes only, so they are drawn from
Student's t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tlc_jax.studies.scaling_law import COEFFICIENTS, Points, ScalingLaw, fit_law, relative_errors

SHARE = 0.95  # of the draws, in an interval
DRAWS = 300
WINDOW = 4
"""Points at less than this part of the longest training of their size are not fitted: soon after the warm-up
a loss falls along another curve (docs/usage/plan.md)."""
_TOLERANCE = 1.3  # trainings by the clock end near their mark
_FARTHEST = 20.0
"""Of logarithmic errors: Student's t of one value draws some that no float holds, and infinite losses have no
difference."""
_PER_TERM = {"A": 2, "B": 2, "E": 1}  # constants that a term of the law has


@dataclass(frozen=True)
class Spread:
    """A relative error whose standard deviation was estimated from so many values."""

    deviation: float
    values: int

    def draw(self, count: int, rng: np.random.Generator) -> Float[np.ndarray, "draws"]:
        return self.deviation * rng.standard_t(max(self.values, 1), count)


@dataclass(frozen=True)
class FittedLaw:
    """A law with what its intervals are made of. `draws` are laws that are fitted to resampled points.
    `per_doubling` is the error for each doubling of the tokens beyond the longest training of a size, and
    `new_size` that of a size that was not trained."""

    law: ScalingLaw
    points: Points
    draws: ScalingLaw
    residuals: Float[np.ndarray, "points"]
    of_trainings: Float[np.ndarray, "trainings"]
    per_doubling: Spread
    new_size: Spread

    def predict(
        self, parameters: float, tokens: float | Float[np.ndarray, "draws"], rng: np.random.Generator
    ) -> Float[np.ndarray, "draws"]:
        """Draws of the loss of a training of a size: of one training, not of the mean over seeds. The tokens
        may be draws as well."""
        count = len(self.draws.E)
        losses = self.draws.loss(np.asarray(parameters), np.asarray(tokens))
        error = rng.choice(self.residuals, count) + rng.choice(self.of_trainings, count)
        doublings = np.maximum(0.0, np.log2(tokens / self.longest(parameters)))
        error = error + doublings * self.per_doubling.draw(count, rng)
        sizes = np.unique(self.points.parameters)
        if not np.isclose(sizes, parameters, rtol=1e-6).any():
            error = error + self.new_size.draw(count, rng)
        return losses * np.exp(np.clip(error, -_FARTHEST, _FARTHEST))

    def longest(self, parameters: float) -> float:
        """Tokens of the longest training of a size, interpolated between the sizes that were trained."""
        sizes, tokens = longest_trainings(self.points)
        return float(np.exp(np.interp(np.log(parameters), np.log(sizes), np.log(tokens))))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The interval of each constant of the law."""
        return {name: covered(getattr(self.draws, name)) for name in COEFFICIENTS}


def covered(draws: Float[np.ndarray, "draws"], share: float = SHARE) -> tuple[float, float]:
    """The interval between the quantiles that leave as many draws out on either side."""
    low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def longest_trainings(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """(parameters, tokens of the longest training) of each size, in rising order."""
    sizes = np.unique(points.parameters)
    return sizes, np.array([points.tokens[points.parameters == size].max() for size in sizes])


def are_longest(points: Points) -> np.ndarray:
    """Which points are of the longest trainings of their size: other seeds of as many updates have not quite
    as many tokens."""
    longest = dict(zip(*longest_trainings(points), strict=True))
    return points.tokens * _TOLERANCE >= np.array([longest[size] for size in points.parameters])


def fitted_range() -> float:
    """The tokens of the longest training of a size over those of the shortest that is fitted, at most."""
    return WINDOW * _TOLERANCE


def in_window(points: Points) -> Points:
    """The points that are fitted: those of at least a quarter of the tokens of the longest of their size."""
    ends = dict(zip(*longest_trainings(points), strict=True))
    longest = np.array([ends[size] for size in points.parameters])
    return points.subset(points.tokens * fitted_range() >= longest)


def fit_with_intervals(points: Points, draws: int = DRAWS, seed: int = 0) -> FittedLaw:
    """The law of the points in the window, with its errors; `seed` is that of the resampling."""
    used, rng = in_window(points), np.random.default_rng(seed)
    law = fit_law(used)
    residuals, of_trainings = _residuals(law, used)
    predicted = law.loss(used.parameters, used.tokens)
    _, trainings = np.unique(used.trainings, return_inverse=True)
    laws = []
    for _ in range(draws):
        error = rng.choice(residuals, len(used))
        error = error + rng.choice(of_trainings, trainings.max() + 1)[trainings]
        losses = predicted * np.exp(error)
        laws.append(fit_law(Points(used.parameters, used.tokens, losses, used.trainings)))
    resampled = ScalingLaw(*(np.array([getattr(each, name) for each in laws]) for name in vars(law)))
    return FittedLaw(
        *(law, used, resampled, residuals, of_trainings),
        _of_longer_trainings(points),
        _of_withheld_sizes(points),
    )


def _residuals(law: ScalingLaw, points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of points, around zero and with the variance that a fit takes from them added again;
    and those that all points of a training share, as far as other seeds of its size do not have them."""
    errors = np.log1p(relative_errors(law, points))
    constants = sum(count for name, count in _PER_TERM.items() if getattr(law, name) > 0)
    shared = {}
    for size in np.unique(points.parameters):
        of_size = points.parameters == size
        seeds = np.unique(points.trainings[of_size])
        if len(seeds) > 1:
            means = np.array([errors[points.trainings == seed].mean() for seed in seeds])
            shared |= dict(zip(seeds, means - means.mean(), strict=True))
    left = errors - np.array([shared.get(training, 0.0) for training in points.trainings])
    left = (left - left.mean()) * np.sqrt(len(points) / max(1, len(points) - constants))
    # of k seeds around their own mean, 1 - 1/k of the variance is left; two have half of it
    counts = [len(np.unique(points.trainings[points.parameters == s])) for s in np.unique(points.parameters)]
    several = [count for count in counts if count > 1]
    factor = np.sqrt(sum(several) / max(1, sum(several) - len(several)))
    return left, factor * np.array([*shared.values()] or [0.0])


def _of_longer_trainings(points: Points) -> Spread:
    """The error of predicting the longest training of each size from the shorter ones, by doubling of the
    tokens."""
    sizes, tokens = longest_trainings(points)
    last = are_longest(points)
    shorter = in_window(points.subset(~last)) if not last.all() else points
    law, errors = fit_law(shorter), []
    for size, longest in zip(sizes, tokens, strict=True):
        of_size = shorter.tokens[shorter.parameters == size]
        if len(of_size) and of_size.max() < longest:
            target = points.subset((points.parameters == size) & last)
            error = float(np.log1p(relative_errors(law, target)).mean())
            errors.append(error / np.log2(longest / of_size.max()))
    return _spread(errors)


def _of_withheld_sizes(points: Points) -> Spread:
    """The error of predicting the longest training of a size from the other sizes. Of the smallest and the
    largest it is larger than of a size between two others, so that it is an upper limit there."""
    last, errors = are_longest(points), []
    for size in np.unique(points.parameters):
        others = points.subset(points.parameters != size)
        if len(others):
            target = points.subset((points.parameters == size) & last)
            error = np.log1p(relative_errors(fit_law(in_window(others)), target))
            errors.append(float(error.mean()))
    return _spread(errors)


def _spread(errors: list[float]) -> Spread:
    return Spread(float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0, len(errors))
