"""The rise of the loss by compression: against rises that follow a known law."""

import numpy as np
import pytest

from tlc_jax.studies.compression_rise import CompressionRise, MeasuredRise, Recipe

CONSTANTS: dict[Recipe, float] = {(8, 0.0): -7.0, (4, 0.0): -3.0, (2, 0.0): 0.0, (32, 0.6): -0.5}
SIZES, MARKS = (1e5, 4e5, 1.2e6, 3.5e6), (0.25, 1.0)


def ratio(recipe: Recipe, parameters: float, tokens: float) -> float:
    return float(
        1 + np.exp(CONSTANTS[recipe]) * (parameters / 1e6) ** 0.9 * (tokens / parameters / 20) ** 0.7
    )


def measured(noise: float, marks: tuple[float, ...] = MARKS, seed: int = 0) -> list[MeasuredRise]:
    """Of sizes that were trained for as long: tokens fall as fast as parameters rise."""
    rng, rows = np.random.default_rng(seed), []
    for size in SIZES:
        for mark in marks:
            tokens = mark * 2e13 / size
            for recipe in CONSTANTS:
                rise = ratio(recipe, size, tokens) - 1
                rows.append(
                    MeasuredRise(recipe, size, tokens, 1 + rise * np.exp(noise * rng.standard_normal()))
                )
    return rows


@pytest.mark.parametrize("recipe", CONSTANTS)
@pytest.mark.parametrize("size", [2e5, 2e6])
def test_a_size_between_two_that_were_measured(recipe: Recipe, size: float) -> None:
    rise, tokens = CompressionRise(measured(0.0)), 1e13 / size
    draws = rise.ratio(recipe, size, tokens, 4000, np.random.default_rng(0))
    assert np.median(draws) - 1 == pytest.approx(ratio(recipe, size, tokens) - 1, rel=0.1, abs=1e-3)


def test_intervals_cover_what_they_say() -> None:
    covered = []
    for seed in range(60):
        rise, rng = CompressionRise(measured(0.2, seed=seed)), np.random.default_rng(100 + seed)
        for recipe in ((4, 0.0), (2, 0.0)):
            draws = rise.ratio(recipe, 7e5, 1.5e7, 1000, rng)
            low, high = np.quantile(draws, [0.025, 0.975])
            true = 1 + (ratio(recipe, 7e5, 1.5e7) - 1) * np.exp(0.2 * rng.standard_normal())
            covered.append(low <= true <= high)
    assert np.mean(covered) > 0.9


def test_one_mark_is_enough_for_a_time_like_it() -> None:
    rise = CompressionRise(measured(0.0, marks=(1.0,)))
    draws = rise.ratio((4, 0.0), 7e5, 2e13 / 7e5, 4000, np.random.default_rng(0))
    assert np.median(draws) - 1 == pytest.approx(ratio((4, 0.0), 7e5, 2e13 / 7e5) - 1, rel=0.1)


def test_what_too_few_models_were_measured_with_is_not_predicted() -> None:
    rows = measured(0.0)
    rise = CompressionRise([*rows, *(MeasuredRise((3, 0.0), 1e5, 1e8, 1.3),) * 2])
    assert set(rise.recipes) == set(CONSTANTS)
    assert CompressionRise([]).recipes == []


def test_a_rise_below_the_noise_stays_small() -> None:
    """Of 8 bits, that may even be better by chance."""
    rows = [MeasuredRise((8, 0.0), size, 1e7, 1 - 2e-4) for size in SIZES]
    draws = CompressionRise(rows).ratio((8, 0.0), 5e5, 1e7, 1000, np.random.default_rng(0))
    assert np.median(draws) == pytest.approx(1, abs=0.002)
