"""The optimum of a budget against curves whose optimum is known; where sizes overtake each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.studies.exhibits.best_size import exponent, optimum, overtaking


@given(st.floats(5, 9), st.floats(0.01, 10), st.integers(4, 9))
def test_the_lowest_point_of_a_parabola_is_met_exactly(center: float, bend: float, count: int) -> None:
    log_sizes = np.linspace(center - 2.3, center + 1.9, count)
    losses = [1 + bend * (x - center) ** 2 for x in log_sizes]
    assert optimum([math.exp(x) for x in log_sizes], losses) == pytest.approx(math.exp(center), rel=1e-6)


@pytest.mark.parametrize("losses", [[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
def test_nothing_is_said_beyond_the_sizes(losses: list[float]) -> None:
    assert optimum([1e5, 1e6, 1e7], losses) is None


def rows(losses: dict[str, list[float]], seconds: list[float]) -> list[dict]:
    """Rows as the exhibit has them: losses of each size, in rising order, at each mark."""
    return [
        {"size": size, "mark": str(at), "training_seconds": at, "value": values[i], "comparable": True}
        for i, at in enumerate(seconds)
        for size, values in losses.items()
    ]


def test_a_size_overtakes_where_straight_lines_over_the_logarithm_of_time_cross() -> None:
    crossings = overtaking(rows({"1x32": [3.0, 2.5, 2.2], "2x64": [3.3, 2.4, 1.9]}, [10.0, 20.0, 40.0]))
    # the gap falls from 0.3 to -0.1: three quarters of the way from log 10 to log 20
    assert crossings == [("1x32", "2x64", pytest.approx(10 * 2**0.75))]


def test_sizes_above_the_gate_overtake_nobody() -> None:
    compared = rows({"1x32": [3.0, 2.5], "2x64": [3.3, 2.4]}, [10.0, 20.0])
    for row in compared:
        row["comparable"] = row["mark"] != "10.0"
    assert overtaking(compared) == []


def test_the_exponent_of_optima_that_follow_a_power_of_time() -> None:
    optima = [{"training_seconds": t, "optimum": 3e4 * t**0.62} for t in (10.0, 20.0, 40.0, 80.0)]
    assert exponent(optima) == pytest.approx(0.62)
    assert exponent([*optima[:2], {"training_seconds": 40.0, "optimum": None}]) is None
