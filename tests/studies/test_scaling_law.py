"""The fit of E + A/N^a + B/D^b: against constants that points were made with, and against another solver."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import nnls

from tlc_jax.studies import scaling_law
from tlc_jax.studies.law_intervals import Spread, covered, fit_with_intervals, in_window
from tlc_jax.studies.scaling_law import COEFFICIENTS, Points, ScalingLaw, fit_law, relative_errors

# Hoffmann et al. 2022, approach 3
HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "a": 0.34, "b": 0.28}
LAW = ScalingLaw(**{name: np.asarray(value) for name, value in HOFFMANN.items()})
SIZES = np.logspace(7.6, 10.2, 6)
MARKS = np.array([1 / 4, 1 / 2, 1])


def points(noise: float = 0.0, seed: int = 0, sizes: np.ndarray = SIZES, seeds: int = 1) -> Points:
    """Six sizes of 40 M to 16 B parameters, at three marks of trainings of as many operations."""
    rng = np.random.default_rng(seed)
    n, mark, training = np.meshgrid(sizes, MARKS, np.arange(seeds), indexing="ij")
    d = 3e20 / n * mark  # so that larger sizes see fewer tokens
    losses = LAW.loss(n, d) * np.exp(noise * rng.standard_normal(n.shape))
    numbers = training + 100.0 * np.searchsorted(sizes, n)
    return Points(*(each.ravel() for each in (n, d, losses, numbers)))


def test_constants_of_exact_points() -> None:
    law = fit_law(points())
    for name, value in HOFFMANN.items():
        assert getattr(law, name) == pytest.approx(value, rel=0.05), name
    assert np.abs(relative_errors(law, points())).max() < 1e-4


@pytest.mark.parametrize("seed", [0, 1])
def test_constants_of_noisy_points_are_within_their_intervals(seed: int) -> None:
    intervals = fit_with_intervals(points(0.002, seed), draws=60).intervals()
    for name, value in HOFFMANN.items():
        low, high = intervals[name]
        assert low <= value <= high, (name, low, high)


def test_linear_constants_are_those_of_another_solver() -> None:
    """Of exponents at which the least squares without a limit would have negative terms, too."""
    some = points(0.05)
    scale, rng = scaling_law._Scale(some), np.random.default_rng(0)
    a, b = rng.uniform(0.03, 2, (2, 40))
    weights = rng.uniform(0.2, 1, len(some))
    squares, linear = scaling_law._solve(some, scale, weights, a, b)
    zeros = 0
    for number in range(len(a)):
        terms = np.stack(
            [
                np.ones(len(some)),
                np.exp(-a[number] * scale.parameters),
                np.exp(-b[number] * scale.tokens),
            ],
            axis=1,
        )
        expected, norm = nnls(terms / some.losses[:, None] * np.sqrt(weights)[:, None], np.sqrt(weights))
        assert squares[number] == pytest.approx(norm**2, rel=1e-6)
        assert linear[number] == pytest.approx(expected, abs=1e-4)
        zeros += (expected == 0).any()
    assert 0 < zeros < len(a)


def test_one_outlier_hardly_moves_the_law() -> None:
    some = points(0.002)
    losses = some.losses.copy()
    losses[4] *= 1.2
    moved = fit_law(Points(some.parameters, some.tokens, losses, some.trainings))
    far = LAW.loss(np.array(1e9), np.array(1e12))
    assert moved.loss(np.array(1e9), np.array(1e12)) == pytest.approx(far, rel=0.02)


def test_no_constant_is_negative() -> None:
    """Losses that larger sizes make worse, which no law of this form has."""
    n, d = map(np.ravel, np.meshgrid(np.array([1e5, 1e6, 1e7]), np.array([1e6, 2e6, 4e6])))
    law = fit_law(Points(n, d, 1 + 0.1 * np.log10(n) + 1e5 / d, n))
    assert all(getattr(law, name) >= 0 for name in COEFFICIENTS)
    assert pytest.approx(0, abs=1e-9) == law.A


def test_only_the_later_part_of_each_training_is_fitted() -> None:
    d = np.array([1.0, 2, 4, 8, 16, 3, 12])
    n = np.array([1.0, 1, 1, 1, 1, 2, 2])
    assert in_window(Points(n, d, d, n)).tokens.tolist() == [4, 8, 16, 3, 12]


def test_predictions_of_longer_trainings_and_other_sizes_are_less_certain() -> None:
    fitted = fit_with_intervals(points(0.005), draws=60)
    rng = np.random.default_rng(0)

    def width(parameters: float, tokens: float) -> float:
        low, high = covered(np.log(fitted.predict(parameters, tokens, rng)))
        return high - low

    size, longest = float(SIZES[2]), 3e20 / float(SIZES[2])
    assert width(size, 8 * longest) > 1.5 * width(size, longest)
    between = float(np.sqrt(SIZES[2] * SIZES[3]))
    assert width(between, 3e20 / between) > width(size, longest)


def test_losses_that_are_uncertain_without_end_can_be_compared() -> None:
    """One value is all that says how far longer trainings may be missed, by half, and the tails of its
    Student's t are long: over ten doublings draws of two sizes still have a difference."""
    law = fit_with_intervals(points(0.01), 20)
    law = dataclasses.replace(law, per_doubling=Spread(0.5, 1))
    law = dataclasses.replace(law, draws=ScalingLaw(*(np.repeat(x, 500) for x in vars(law.draws).values())))
    one, other = (law.predict(size, 1000 * law.longest(size), np.random.default_rng(0)) for size in SIZES[:2])
    assert np.isfinite(covered(one - other)).all()


def test_seeds_with_not_quite_as_many_tokens_are_no_shorter_trainings() -> None:
    """Of batches that are counted in tokens, a seed has a few more or fewer after as many updates."""
    equal = points(0.01, seeds=3)
    few = 1 + 3e-5 * np.random.default_rng(0).random(len(equal))
    unequal = dataclasses.replace(equal, tokens=equal.tokens * few)
    one, other = (fit_with_intervals(each, 20) for each in (equal, unequal))
    assert one.per_doubling.values == other.per_doubling.values == len(SIZES)
    assert other.per_doubling.deviation == pytest.approx(one.per_doubling.deviation, rel=0.02)
    assert other.new_size.deviation == pytest.approx(one.new_size.deviation, rel=0.02)


def test_the_spread_of_seeds_is_part_of_a_prediction() -> None:
    """Of trainings whose points are all better or worse than those of the other seeds."""
    exact = points(seeds=4)
    _, numbers = np.unique(exact.trainings, return_inverse=True)
    shift = np.random.default_rng(0).choice([-0.02, 0.02], 24)[numbers]
    shifted = Points(exact.parameters, exact.tokens, exact.losses * np.exp(shift), exact.trainings)
    fitted = fit_with_intervals(shifted, draws=60)
    draws = fitted.predict(float(SIZES[2]), 3e20 / float(SIZES[2]), np.random.default_rng(0))
    assert 0.01 < np.log(draws).std() < 0.05


@pytest.mark.slow
def test_intervals_cover_what_they_say() -> None:
    """Over 12 sets of points: constants, the loss of a new training of four times the tokens, and that of a
    size between two others."""
    constants, longer, between = [], [], []
    target, middle = float(SIZES[3]), float(np.sqrt(SIZES[2] * SIZES[3]))
    for seed in range(12):
        fitted, rng = fit_with_intervals(points(0.005, seed), draws=60), np.random.default_rng(1000 + seed)
        intervals = fitted.intervals()
        constants += [low <= HOFFMANN[name] <= high for name, (low, high) in intervals.items()]
        for size, times, results in ((target, 4, longer), (middle, 1, between)):
            tokens = times * 3e20 / size
            low, high = covered(fitted.predict(size, tokens, np.random.default_rng(seed)))
            true = float(LAW.loss(np.array(size), np.array(tokens)))
            results.append(low <= true * np.exp(0.005 * rng.standard_normal()) <= high)
    print(
        f"coverage: constants {np.mean(constants):.3f}, longer {np.mean(longer):.3f}, "
        f"between {np.mean(between):.3f}"
    )
    assert np.mean(constants) > 0.85
    assert min(np.mean(longer), np.mean(between)) > 0.9
