"""Differences and frontiers against brute force and formulas."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tlc_jax.studies.frontier import MeasuredModel, best, frontier, pack, unpack
from tlc_jax.studies.statistics import difference
from tlc_jax.tasks.metric import ACCURACY, NATS_PER_BYTE


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=12))
def test_mcnemar_is_a_count_of_coins(rows: list[tuple[bool, bool]]) -> None:
    """Of all ways in which the examples that differ could have fallen, how many are as unlikely?"""
    one, other = np.array(rows).T
    found = difference(one[None], other[None])
    differing = [a - b for a, b in np.array(rows, int) if a != b]
    falls = [sum(fall) for fall in itertools.product((-1, 1), repeat=len(differing))]
    as_far = sum(abs(fall) >= abs(sum(differing)) for fall in falls)
    assert found.examples_p == pytest.approx(as_far / len(falls))
    assert found.mean == pytest.approx(sum(differing) / len(rows))
    assert found.seeds_p is None
    assert not found.resolved
    assert str(found).endswith("these two differ" if found.examples_p < 0.05 else "no difference is seen")


def test_errors_are_those_of_the_formulas() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((3, 400)) < 0.8, rng.random((2, 400)) < 0.6
    found = difference(one, other)
    by_example = one.mean(0) - other.mean(0)
    assert found.mean == pytest.approx(one.mean() - other.mean())
    assert found.examples_error == pytest.approx(by_example.std(ddof=1) / math.sqrt(400))
    variances = [x.mean(1).var(ddof=1) / len(x) for x in (one, other)]
    assert found.seeds_error == pytest.approx(math.sqrt(sum(variances)))
    assert found.resolved


def test_examples_alone_resolve_nothing() -> None:
    """One model is better in the mean over seeds, but its seeds differ more than the models do."""
    right = [900, 650, 640], [600, 590, 610]
    one, other = (np.stack([np.arange(1000) < count for count in counts]) for counts in right)
    found = difference(one, other)
    assert found.examples_p < 1e-6
    assert found.seeds_p is not None
    assert found.seeds_p > 0.05
    assert not found.resolved
    assert str(found).endswith("not resolved")


@pytest.mark.slow
def test_the_p_value_over_seeds_is_uniform_if_nothing_differs() -> None:
    """A tenth of the p-values of models that do not differ lies below 0.1; against a single model too."""
    rng = np.random.default_rng(1)
    for other_seeds in (3, 1):
        accuracies = 0.7 + 0.02 * rng.standard_normal((300, 3 + other_seeds))
        accuracies[:, 3:] = 0.7 if other_seeds == 1 else accuracies[:, 3:]
        found = []
        for row in accuracies:
            correct = np.arange(2000)[None] < 2000 * row[:, None]
            found.append(difference(correct[:3], correct[3:]).seeds_p)
        assert 0.05 < np.mean(np.array(found) < 0.1) < 0.16


def test_seeds_that_agree_exactly_are_no_trouble() -> None:
    """A pruned model that says one class of everything has one accuracy for all seeds."""
    rng = np.random.default_rng(0)
    constant = np.repeat((np.arange(50) % 2 == 0)[None], 3, axis=0)
    varying = rng.random((3, 50)) < 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference(varying, constant)
        assert difference(constant, constant).seeds_p == 1
    means = varying.mean(axis=1)
    t = (means.mean() - 0.5) / (means.std(ddof=1) / math.sqrt(3))  # Welch's t, one variance 0: 2 degrees
    assert found.seeds_p == pytest.approx(2 * stats.t.sf(abs(t), 2))


def model(rng: np.random.Generator, counts: list[int], examples: int) -> np.ndarray:
    """Seeds that have so many of the examples right, each others."""
    return np.stack([rng.permutation(np.arange(examples) < count) for count in counts])


SEEDS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@given(SEEDS, SEEDS, st.integers(0, 9))
def test_p_over_seeds_for_any_seeds(one: list[int], other: list[int], number: int) -> None:
    """In (0, 1] and the same from either side; Welch's where anything varies; and seeds that all agree, which
    few examples make likely, resolve nothing."""
    rng = np.random.default_rng(number)
    first, second = model(rng, one, 30), model(rng, other, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, back = difference(first, second), difference(second, first)
    assert (found.seeds_p, found.examples_p) == (back.seeds_p, pytest.approx(back.examples_p))
    assert 0 < found.examples_p <= 1
    if len(one) == len(other) == 1:
        assert found.seeds_p is None
        return
    assert found.seeds_p is not None
    assert 0 < found.seeds_p <= 1
    if len({*one}) == len({*other}) == 1:
        assert found.seeds_p == 1
        assert not found.resolved
        assert "says nothing about other seeds, not resolved" in str(found)
    elif min(len(one), len(other)) > 1 and len({*one}) > 1 and len({*other}) > 1:
        welch = stats.ttest_ind([x / 30 for x in one], [x / 30 for x in other], equal_var=False)
        assert found.seeds_p == pytest.approx(welch.pvalue)


@pytest.mark.slow
def test_seeds_that_agree_by_chance_claim_nothing_more_often_than_they_may() -> None:
    """Of two models that do not differ, with two seeds each and few examples, a tenth of the p-values at most
    lies below 0.1. One comparison in ten has no variance to divide by."""
    rng = np.random.default_rng(4)
    agreeing, below = 0, 0
    for _ in range(600):
        counts = rng.binomial(10, 0.9, (2, 2))
        found = difference(*(model(rng, own.tolist(), 10) for own in counts))
        agreeing += int((counts[:, 0] == counts[:, 1]).all())
        assert found.seeds_p is not None
        below += found.seeds_p < 0.1
    assert agreeing > 20
    assert below < 60 + 3 * 60**0.5


def test_examples_that_all_differ_alike_are_coins() -> None:
    """A t-test has no variance to divide by."""
    right, wrong = np.ones((2, 12), bool), np.zeros((3, 12), bool)
    assert difference(right, wrong).examples_p == pytest.approx(2 * 0.5**12)
    assert difference(right[:, :1], wrong[:, :1]).examples_p == 1
    many = np.ones((2, 3000), bool)
    assert difference(many, ~many).examples_p > 0
    thirds = np.array([[True, False], [False, True], [True, False]]), np.array([[False, True]])
    assert 0 < difference(*thirds).examples_p <= 1


def test_models_without_a_difference() -> None:
    same = np.arange(10)[None] < 5
    assert difference(same, same).examples_p == 1.0
    three = np.repeat(same, 3, axis=0)
    found = difference(three, three)
    assert (found.examples_p, found.seeds_p, found.resolved) == (1.0, 1.0, False)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_packing_comes_back(bits: list[bool]) -> None:
    assert unpack(pack(np.array(bits)), len(bits)).tolist() == bits


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    """On the tuning set; what the models have right of the reported set (nothing) has no say."""
    nothing = np.zeros((1, 4), bool)
    for sign, metric in ((1, ACCURACY), (-1, NATS_PER_BYTE)):
        models = [
            MeasuredModel(f"{i}", 8, 0.0, size, sign * a / 9, nothing.mean(axis=1), nothing, metric)
            for i, (size, a) in enumerate(points)
        ]
        found = [(m.paper_bytes, sign * round(9 * m.tuning)) for m in frontier(models)]
        beaten = {p for p in points if any(o != p and o[0] <= p[0] and o[1] >= p[1] for o in points)}
        assert found == sorted(set(points) - beaten)
        chosen = best(models, 5)
        assert (chosen is None) == all(size > 5 for size, _ in points)
