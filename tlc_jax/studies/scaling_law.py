"""The loss of a model as a function of its parameters N and of the tokens D that it was trained on,
E + A / N^a + B / D^b (Hoffmann et al. 2022, approach 3), fitted to measured points.

Given the exponents, the law is linear in E, A and B, so these are solved for at every pair of exponents on a
grid, which is then refined around the best (variable projection). Parabolas over the logarithm of N, the
usual alternative, are biased even without noise: they hold near the optimum of a budget only, and the law is
not symmetric around it (Czech et al. 2026, arXiv 2603.22339, which proposes variable projection instead).

N counts all parameters, embeddings included: of small models these are most of a model and are compressed
with it, and losses of a size that was withheld are predicted no better without them
(docs/usage/plan.md). D counts tokens as they are seen. A token that is seen again counts in full, which
holds for about four passes over the data (Muennighoff et al. 2023, arXiv 2305.16264) and not beyond.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

COEFFICIENTS = ("E", "A", "B", "a", "b")
_SMALLEST, _LARGEST = 0.03, 2.0  # exponents
_GRID = 16
_ZOOMS = 5  # each narrows the grid around the best exponents by more than two
_ZOOMED = 7
_ROUNDS = 6  # of reweighting
_HUBER = 1.345  # robust standard deviations: 95 % efficiency where errors are normal (Huber 1981)
_NORMAL = 1.4826  # standard deviation over median absolute deviation of a normal distribution
_DEVIATION = 0.01  # of relative errors, before it is estimated
_APART = 0.2
"""Standard deviation of log(a / b), as a prior: Kaplan et al. 2020 have 0.076 and 0.095, Hoffmann et al. 2022
0.34 and 0.28, Besiroglu et al. 2024 0.348 and 0.366. Three sizes hardly say more; many points outweigh it."""
_EXACT = 1e-7  # relative errors below it are rounding


@dataclass(frozen=True)
class Points:
    """Losses of trainings at some of their points; `trainings` numbers the training that each is of."""

    parameters: Float[np.ndarray, "points"]
    tokens: Float[np.ndarray, "points"]
    losses: Float[np.ndarray, "points"]
    trainings: Float[np.ndarray, "points"]

    def __len__(self) -> int:
        return len(self.losses)

    def subset(self, chosen: np.ndarray) -> Points:
        """The points that an array of numbers or of true and false chooses."""
        return Points(*(values[chosen] for values in vars(self).values()))


@dataclass(frozen=True)
class ScalingLaw:
    """The constants of the law, or arrays of them, one value for each of several laws."""

    E: Float[np.ndarray, "*laws"]
    A: Float[np.ndarray, "*laws"]
    B: Float[np.ndarray, "*laws"]
    a: Float[np.ndarray, "*laws"]
    b: Float[np.ndarray, "*laws"]

    def loss(self, parameters: Float[np.ndarray, "..."], tokens: Float[np.ndarray, "..."]) -> np.ndarray:
        powers = np.power(parameters, -self.a), np.power(tokens, -self.b)
        return np.asarray(self.E + self.A * powers[0] + self.B * powers[1])


def fit_law(points: Points) -> ScalingLaw:
    """The law with the least Huber loss of relative errors, with E, A and B not negative.

    Errors are relative, since a loss that is predicted to 1 % is as good at the beginning as at the end. The
    Huber loss, which weighs outliers less, is minimised by reweighted least squares.
    """
    scale, weights, deviation = _Scale(points), np.ones(len(points)), _DEVIATION
    law, exponents = _least_squares(points, scale, weights, deviation, None)
    for _ in range(_ROUNDS):
        errors, before = np.abs(relative_errors(law, points)), (weights, deviation)
        deviation = float(_NORMAL * np.median(errors))
        if deviation < _EXACT:
            break
        weights = np.minimum(1.0, _HUBER * deviation / np.maximum(errors, _EXACT))
        if np.allclose(weights, before[0], atol=1e-3) and deviation > 0.9 * before[1]:
            break
        law, exponents = _least_squares(points, scale, weights, deviation, exponents)
    return law


def relative_errors(law: ScalingLaw, points: Points) -> Float[np.ndarray, "points"]:
    """What is measured over what the law predicts, less one."""
    return points.losses / law.loss(points.parameters, points.tokens) - 1


class _Scale:
    """Logarithms of N and D around their means, so that powers of them are near one."""

    def __init__(self, points: Points):
        logs = np.log(points.parameters), np.log(points.tokens)
        self.means = tuple(float(each.mean()) for each in logs)
        self.parameters, self.tokens = (each - mean for each, mean in zip(logs, self.means, strict=True))

    def law(self, linear: Float[np.ndarray, "3"], a: float, b: float) -> ScalingLaw:
        """The law in N and D themselves."""
        at_mean = linear[1] * np.exp(a * self.means[0]), linear[2] * np.exp(b * self.means[1])
        return ScalingLaw(*map(np.asarray, (linear[0], *at_mean, a, b)))


def _least_squares(
    points: Points,
    scale: _Scale,
    weights: Float[np.ndarray, "points"],
    deviation: float,
    near: tuple[float, float] | None,
) -> tuple[ScalingLaw, tuple[float, float]]:
    """The law of least weighted squares of relative errors, which have this deviation, and of the difference
    of its exponents; and these, searched for everywhere or `near` some."""
    width = np.log(_LARGEST / _SMALLEST)
    middle = np.log(near) if near else np.full(2, np.log(_SMALLEST * _LARGEST) / 2)
    width, count = (width / 4, _ZOOMED) if near else (width, _GRID)
    best = np.inf, np.zeros(3), (1.0, 1.0)
    for _ in range(_ZOOMS + (near is None)):
        ends = np.log(_SMALLEST), np.log(_LARGEST)
        grid = [np.exp(np.clip(np.linspace(m - width / 2, m + width / 2, count), *ends)) for m in middle]
        a, b = (each.ravel() for each in np.meshgrid(*grid))
        squares, linear = _solve(points, scale, weights, a, b)
        squares = squares + np.square(deviation / _APART * np.log(a / b))
        first = int(np.argmin(squares))
        if squares[first] < best[0]:
            best = float(squares[first]), linear[first], (float(a[first]), float(b[first]))
        middle = np.log(best[2])
        width, count = 2.5 * width / (count - 1), _ZOOMED
    _, linear, exponents = best
    return scale.law(linear, *exponents), exponents


def _solve(
    points: Points,
    scale: _Scale,
    weights: Float[np.ndarray, "points"],
    a: Float[np.ndarray, "grid"],
    b: Float[np.ndarray, "grid"],
) -> tuple[Float[np.ndarray, "grid"], Float[np.ndarray, "grid 3"]]:
    """(weighted squares of relative errors, non-negative E, A and B that have the fewest) for each pair of
    exponents: the best least-squares solution without a negative one, over all sets of terms that are not
    zero. Of three terms these are seven, which is exact and does all pairs at once."""
    powers = np.exp(-np.outer(a, scale.parameters)), np.exp(-np.outer(b, scale.tokens))
    terms = np.stack([np.ones_like(powers[0]), *powers], axis=-1) / points.losses[:, None]
    terms = terms * np.sqrt(weights)[:, None]
    wanted = np.sqrt(weights)
    transposed = terms.swapaxes(1, 2)
    products, sides = transposed @ terms, transposed @ wanted
    best, solutions = np.full(len(a), np.inf), np.zeros((len(a), 3))
    for size in (1, 2, 3):
        for used in map(list, itertools.combinations(range(3), size)):
            matrices = products[:, used][:, :, used] + 1e-13 * np.eye(size)
            part = np.linalg.solve(matrices, sides[:, used, None])[..., 0]
            whole = np.zeros((len(a), 3))
            whole[:, used] = part
            squares = np.square((terms @ whole[..., None])[..., 0] - wanted).sum(axis=1)
            better = (part >= 0).all(axis=1) & (squares < best)
            best[better], solutions[better] = squares[better], whole[better]
    return best, solutions
