"""How much a loss rises by compression, as a function of a model's parameters N and of the tokens for each of
them that it was trained on, D / N.

For each number of bits and sparsity that was measured, the logarithm of the relative rise is linear in the
logarithms of N and D / N: a model that is trained for longer loses more, as laws of post-training
quantization have it (Kumar et al. 2024, arXiv 2411.04330). The two slopes of each compression are drawn
towards those that all have in common, which is what a few models can say. Nothing is interpolated between
bits or sparsities: only what was measured is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Recipe = tuple[int, float]
"""Bits and sparsity."""
FEWEST = 3
"""Measured models of a compression."""
_SMALLEST = 3e-4  # relative rises below it are noise of the evaluation
_APART = 0.3  # standard deviation of a compression's slopes around the common ones
_LARGEST = 5.0  # of the logarithm of a rise: a model is useless long before
_ERROR = 0.2  # of the logarithm of a rise, before it is estimated


@dataclass(frozen=True)
class MeasuredRise:
    """The loss of a compressed model over that of the same model before."""

    recipe: Recipe
    parameters: float
    tokens: float
    ratio: float


@dataclass(frozen=True)
class _Line:
    """The coefficients of a constant, log N and log D / N around their means, with their covariance."""

    coefficients: Float[np.ndarray, "3"]
    covariance: Float[np.ndarray, "3 3"]


class CompressionRise:
    """The rise by each compression that at least three models were measured with."""

    def __init__(self, measured: Sequence[MeasuredRise]):
        counts: dict[Recipe, int] = {}
        for each in measured:
            counts[each.recipe] = counts.get(each.recipe, 0) + 1
        used = [each for each in measured if counts[each.recipe] >= FEWEST]
        self.recipes = [recipe for recipe, count in counts.items() if count >= FEWEST]
        self._lines: dict[Recipe, _Line] = {}
        if used:
            self._fit(used)

    def _fit(self, measured: list[MeasuredRise]) -> None:
        models = {(each.parameters, each.tokens) for each in measured}
        self._freedom = max(1, len(models) - 3)  # the errors of one model's compressions are alike
        logs = np.log([[each.parameters, each.tokens / each.parameters] for each in measured])
        self._means = logs.mean(axis=0)
        terms = np.column_stack([np.ones(len(logs)), logs - self._means])
        rises = np.maximum([each.ratio - 1 for each in measured], _SMALLEST)
        numbers = np.array([self.recipes.index(each.recipe) for each in measured])
        self._error = _ERROR
        for _ in range(2):  # the second time with the error that the first has left
            weights = 1 / (self._error**2 + np.square(_SMALLEST / rises))
            slopes = _common_slopes(terms, np.log(rises), numbers, weights)
            squares = 0.0
            for number, recipe in enumerate(self.recipes):
                rows = numbers == number
                line = _line(terms[rows], np.log(rises[rows]), weights[rows], slopes)
                self._lines[recipe] = line
                left = np.log(rises[rows]) - terms[rows] @ line.coefficients
                squares += float(np.sum(weights[rows] * self._error**2 * left**2))
            freedom = max(1, len(measured) - len(self.recipes) - 2)
            self._error = max(0.05, float(np.sqrt(squares / freedom)))

    def ratio(
        self, recipe: Recipe, parameters: float, tokens: float, count: int, rng: np.random.Generator
    ) -> Float[np.ndarray, "draws"]:
        """Draws of the loss of a compressed model over that of the same model before, as uncertain as few
        measured models leave it (Student's t)."""
        if recipe == (32, 0.0):
            return np.ones(count)
        line, logs = self._lines[recipe], np.log([parameters, tokens / parameters])
        terms = np.array([1.0, *(logs - self._means)])
        deviation = np.sqrt(terms @ line.covariance @ terms + self._error**2)
        logs = terms @ line.coefficients + deviation * rng.standard_t(self._freedom, count)
        return 1 + np.exp(np.minimum(logs, _LARGEST))


def _common_slopes(
    terms: Float[np.ndarray, "models 3"],
    rises: Float[np.ndarray, "models"],
    numbers: np.ndarray,
    weights: Float[np.ndarray, "models"],
) -> Float[np.ndarray, "2"]:
    """The slopes of all compressions together, each with a constant of its own. Where sizes were trained for
    one time only, D / N follows from N, and the smallest slopes that fit are taken."""
    constants = np.eye(numbers.max() + 1)[numbers]
    matrix = np.column_stack([constants, terms[:, 1:]]) * np.sqrt(weights)[:, None]
    solution, *_ = np.linalg.lstsq(matrix, rises * np.sqrt(weights), rcond=1e-6)
    return solution[-2:]


def _line(
    terms: Float[np.ndarray, "models 3"],
    rises: Float[np.ndarray, "models"],
    weights: Float[np.ndarray, "models"],
    slopes: Float[np.ndarray, "2"],
) -> _Line:
    """Least squares, with the slopes normally distributed around the common ones."""
    prior = np.diag([0.0, _APART**-2, _APART**-2])
    inverse = terms.T @ (terms * weights[:, None]) + prior
    sides = terms.T @ (weights * rises) + prior @ np.array([0.0, *slopes])
    return _Line(np.linalg.solve(inverse, sides), np.linalg.inv(inverse))
