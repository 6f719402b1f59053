"""Costs of targets against a search on a fine grid, and of curves whose costs are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy import stats

from tlc_jax.studies.training_curve import Cost, Curve, cost_ratio, costs_text, draw_curves, mean_curve
from tlc_jax.tasks.metric import ACCURACY, NATS_PER_BYTE

COSTS = np.array([100.0, 200.0, 400.0, 800.0])


def line(scale: float, costs: np.ndarray = COSTS) -> Curve:
    """Falls by 1 with each doubling of the cost, from 5 at `scale` x 100."""
    return Curve(costs * scale, 5 - np.log2(costs / 100))


@given(st.lists(st.floats(1, 3), min_size=2, max_size=6), st.floats(1, 3))
def test_the_cost_is_the_first_at_which_the_curve_is_as_good(values: list[float], target: float) -> None:
    costs = 100 * 2.0 ** np.arange(len(values))
    grid = np.geomspace(costs[0], costs[-1], 20_001)
    for metric, sign in ((NATS_PER_BYTE, 1), (ACCURACY, -1)):
        good = sign * np.interp(np.log(grid), np.log(costs), values) <= sign * target + 1e-9
        cost = Curve(costs, np.array(values)).cost_of(target, metric)
        if cost is None:
            assert not good[:-1].any()
        elif cost.at_most:
            assert good[0]
            assert cost.value == costs[0]
        else:
            assert cost.value == pytest.approx(grid[good][0], rel=1e-3)


def test_nothing_is_said_beyond_the_points() -> None:
    curve = line(1)
    assert (curve.at(99), curve.at(801), curve.cost_of(1.9, NATS_PER_BYTE)) == (None, None, None)
    assert curve.at(100) == 5
    assert curve.at(100 * 2**0.5) == pytest.approx(4.5)
    assert curve.cost_of(5.1, NATS_PER_BYTE) == Cost(100, at_most=True)


def test_the_ratio_of_two_models_is_tested_over_their_trainings() -> None:
    scales, others = [0.4, 0.5, 0.6], [0.9, 1.0, 1.2]
    ratio = cost_ratio([line(s) for s in scales], [line(s) for s in others], 3.3, NATS_PER_BYTE)
    assert ratio is not None
    assert not ratio.at_most
    assert ratio.value == pytest.approx(np.prod(scales) ** (1 / 3) / np.prod(others) ** (1 / 3))
    test = stats.ttest_ind(np.log(scales), np.log(others), equal_var=False)
    assert ratio.p == pytest.approx(test.pvalue)
    assert ratio.covered == pytest.approx(tuple(np.exp(test.confidence_interval())))
    single = cost_ratio([line(0.5)], [line(s) for s in others], 3.3, NATS_PER_BYTE)
    assert single is not None
    assert (single.p, single.covered) == (None, None)


def test_a_ratio_needs_costs_of_all_trainings() -> None:
    short, late = line(1, COSTS[:2]), line(1, COSTS[2:])
    assert cost_ratio([line(0.5), short], [line(1)], 3.3, NATS_PER_BYTE) is None
    assert cost_ratio([line(0.5)], [late], 3.3, NATS_PER_BYTE) is None, "perhaps it was reached before"
    bound = cost_ratio([late], [line(1)], 3.3, NATS_PER_BYTE)
    assert bound is not None
    assert bound.at_most
    assert bound.value == pytest.approx(400 / (100 * 2**1.7))
    assert costs_text([Cost(100, False), None]) == "1 of 2 seeds"
    assert costs_text([None]) == "not reached"
    assert costs_text([Cost(1000, False)]) == "1,000"
    assert costs_text([Cost(90, False), Cost(90, True)]) == "at most 90 [90, 90]"


def test_the_mean_is_over_the_same_costs_for_all_trainings() -> None:
    """Two trainings whose evaluations are at slightly different costs, on the same straight line."""
    costs, values = mean_curve([line(1), Curve(COSTS * 1.1, 5 - np.log2(COSTS * 1.1 / 100))])
    assert costs.min() == pytest.approx(110)
    assert costs.max() == 800
    np.testing.assert_allclose(values, np.tile(5 - np.log2(costs / 100), (2, 1)))


def test_a_band_covers_the_mean_over_other_seeds() -> None:
    axes = Figure().subplots()
    curves = [Curve(COSTS, np.array([5.0, 4, 3, 2]) + shift) for shift in (-0.1, 0, 0.1)]
    draw_curves(axes, curves, "3x192")
    [band] = axes.collections
    half = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((2 - half, 5 + half))
    draw_curves(axes, curves[:1], "a single one has none")
    assert len(axes.collections) == 1
