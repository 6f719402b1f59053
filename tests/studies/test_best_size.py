"""The optimum of a budget against curves whose optimum is known; where sizes overtake each other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.studies.stores import trained
from tlc_jax.studies.exhibits.best_size import (
    BEST_SIZE,
    DIMINISHES,
    GROWS,
    exponent,
    exponents,
    optimum,
    overtaking,
)


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


SIZES = {"1x32": 2e5, "2x64": 4e5, "2x128": 1e6, "3x192": 4e6}


def following(seconds: float, power: float, at_ten: float = 4e5) -> dict[str, float]:
    """Losses of sizes on a parabola over log parameters, whose lowest point is at a power of the seconds."""
    lowest = math.log(at_ten) + power * math.log(seconds / 10)
    return {size: 1 + 0.1 * (math.log(count) - lowest) ** 2 for size, count in SIZES.items()}


def of_seeds(powers: list[float], seconds: list[float]) -> list[dict]:
    """Rows as the exhibit has them, of seeds whose optimum grows with these powers of the seconds."""
    return [
        {
            "size": size,
            "parameters": count,
            "mark": str(at),
            "training_seconds": at,
            "values": [following(at, power)[size] for power in powers],
            "seeds": len(powers),
            "comparable": True,
            "metric_of_task": "nats_per_byte",
        }
        for at in seconds
        for size, count in SIZES.items()
    ]


def test_each_seed_has_an_exponent_of_its_own() -> None:
    powers = [0.3, 0.4, 0.45]
    assert exponents(of_seeds(powers, [10.0, 20.0, 40.0, 80.0])) == pytest.approx(powers)


@pytest.mark.parametrize("spoil", ["one seed", "a size above its gate", "a missing seed"])
def test_no_exponent_over_seeds(spoil: str) -> None:
    rows = of_seeds([0.3] if spoil == "one seed" else [0.3, 0.4], [10.0, 20.0, 40.0])
    if spoil == "a size above its gate":  # leaves two budgets
        rows[0]["comparable"] = False
    if spoil == "a missing seed":
        rows[0] |= {"values": rows[0]["values"] * 2, "seeds": 4}
    assert exponents(rows) == []


@pytest.mark.parametrize(("sign", "word"), [(1, "grows"), (-1, "falls")])
def test_the_direction_of_the_optimum_is_said_with_its_interval(tmp_path: Path, sign: int, word: str) -> None:
    marks = {"1/4": 1.0, "1/2": 1.5, "1": 2.0}
    losses = {
        size: {mark: 1 + 0.2 * abs(position - 1 - sign * 0.2 * (at - 1.5)) for mark, at in marks.items()}
        for position, size in enumerate(("1x32", "2x64", "2x128"))
    }
    text = " ".join(BEST_SIZE.sentences(store(tmp_path, losses)))
    assert f"The optimum {word} with the budget to the power of " in text
    assert "the mean of 3 seeds with its interval." in text


def test_seeds_that_disagree_resolve_no_trend() -> None:
    rows = of_seeds([-0.1, 0.4, 0.1], [10.0, 20.0, 40.0])
    for row in rows:
        row |= {"metric": "nats_per_byte", "set": "held out", "value": 1.0, "best": row["size"] == "2x64"}
    assert any("no trend is resolved" in text for text in BEST_SIZE.sentences(rows))


def test_an_optimum_of_one_seed_that_falls_is_not_said_to_grow(tmp_path: Path) -> None:
    losses = {
        "1x32": {"1/4": [1.8], "1/2": [1.6], "1": [1.15]},
        "2x64": {"1/4": [1.5], "1/2": [1.4], "1": [1.1]},
        "2x128": {"1/4": [1.55], "1/2": [1.6], "1": [1.6]},
    }
    text = " ".join(BEST_SIZE.sentences(BEST_SIZE.rows(trained(tmp_path, losses, gate=9.0))))
    assert "The optimum of the means falls with the budget to the power of -" in text


def test_budgets_at_which_a_size_is_above_its_gate_are_left_out(tmp_path: Path) -> None:
    losses = {"1x32": {"1/4": 1.5, "1": 1.4}, "2x64": {"1/4": 1.6, "1": 1.3}, "2x128": {"1/4": 2.5, "1": 1.2}}
    assert [finding.claim for finding in BEST_SIZE.findings(store(tmp_path, losses, gate=2.0))] == [
        DIMINISHES
    ]
