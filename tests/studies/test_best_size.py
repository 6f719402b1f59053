"""The optimum of a budget against curves whose optimum is known; where sizes overtake each other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.studies.stores import trained
from tlc_jax.studies.exhibits.best_size import BEST_SIZE, DIMINISHES, GROWS, exponent, optimum, overtaking


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


NEAR = (-0.001, 0.0, 0.001)


def store(tmp_path: Path, losses: dict[str, dict[str, float]], gate: float = 9.0) -> list[dict]:
    """Rows of the exhibit for sizes with these losses at each mark, of three seeds that hardly differ."""
    values = {
        size: {mark: [loss + off for off in NEAR] for mark, loss in marks.items()}
        for size, marks in losses.items()
    }
    return BEST_SIZE.rows(trained(tmp_path, values, gate=gate))


def test_the_best_size_grows_if_both_orders_are_significant(tmp_path: Path) -> None:
    """1x32 is best at a quarter and 2x128 at the end, each by 0.2 where seeds differ by 0.001."""
    losses = {
        "1x32": {"1/4": 1.5, "1": 1.4},
        "2x64": {"1/4": 1.6, "1": 1.3},
        "2x128": {"1/4": 1.7, "1": 1.2},
    }
    growth, diminishing = BEST_SIZE.findings(store(tmp_path, losses))
    assert (growth.claim, growth.supports) == (GROWS, True)
    assert growth.p is not None
    assert growth.p < 1e-4
    assert growth.effect.startswith("1x32 is best at 300 s and 2x128 at 1,200 s: 2x128 minus 1x32 +0.2000 [")
    assert (diminishing.claim, diminishing.supports) == (DIMINISHES, False)


def test_one_order_that_seeds_may_turn_decides(tmp_path: Path) -> None:
    losses = {
        "1x32": {"1/4": 1.5, "1": 1.4},
        "2x64": {"1/4": 1.6, "1": 1.3},
        "2x128": {"1/4": 1.5005, "1": 1.2},
    }
    growth, _ = BEST_SIZE.findings(store(tmp_path, losses))
    assert growth.p is not None
    assert growth.p > 0.5


def test_the_same_size_at_all_budgets_is_no_growth_and_is_not_tested(tmp_path: Path) -> None:
    first = {"1x32": 1.5, "2x64": 1.2, "2x128": 1.4}
    losses = {size: {"1/4": loss, "1": loss - 0.1} for size, loss in first.items()}
    growth, diminishing = BEST_SIZE.findings(store(tmp_path, losses))
    assert (growth.supports, growth.p) == (False, None)
    assert (diminishing.supports, diminishing.effect[:36]) == (True, "2x128 minus 2x64 +0.2000 [+0.1977, +")


def test_a_size_whose_second_seed_is_not_finished_is_not_judged(tmp_path: Path) -> None:
    """2x128 is best at a quarter and has one seed at the end."""
    few = {"1/4": [1.1, 1.101, 1.102], "1": [1.0]}
    others = {
        size: {mark: [loss, loss + 0.001] for mark in few}
        for size, loss in {"1x32": 1.5, "2x64": 1.3}.items()
    }
    rows = BEST_SIZE.rows(trained(tmp_path, {**others, "2x128": few}, gate=9.0))
    growth, diminishing = BEST_SIZE.findings(rows)
    assert growth.effect == "2x64 is best at 300 s and at 1,200 s"
    assert diminishing.effect.startswith("2x64 minus 1x32")


def test_an_optimum_that_falls_is_not_said_to_grow(tmp_path: Path) -> None:
    losses = {
        "1x32": {"1/4": 1.8, "1/2": 1.6, "1": 1.15},
        "2x64": {"1/4": 1.5, "1/2": 1.4, "1": 1.1},
        "2x128": {"1/4": 1.55, "1/2": 1.6, "1": 1.6},
    }
    text = " ".join(BEST_SIZE.sentences(store(tmp_path, losses)))
    assert "The optimum of the means falls with the budget to the power of -" in text


def test_budgets_at_which_a_size_is_above_its_gate_are_left_out(tmp_path: Path) -> None:
    losses = {"1x32": {"1/4": 1.5, "1": 1.4}, "2x64": {"1/4": 1.6, "1": 1.3}, "2x128": {"1/4": 2.5, "1": 1.2}}
    assert [finding.claim for finding in BEST_SIZE.findings(store(tmp_path, losses, gate=2.0))] == [
        DIMINISHES
    ]
