"""Differences, corrections and intervals against brute force, formulas and scipy."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tlc_jax.studies.statistics import contrast, difference, holm, interval, welch


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
        expected = stats.ttest_ind([x / 30 for x in one], [x / 30 for x in other], equal_var=False)
        assert found.seeds_p == pytest.approx(expected.pvalue)


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


def weighted(rng: np.random.Generator, models: int, examples: int) -> tuple[np.ndarray, ...]:
    """Losses of examples of different lengths, which grow with them, and the lengths."""
    lengths = rng.integers(5, 60, examples).astype(float)
    return lengths * (1 + 0.3 * rng.standard_normal((models, examples))), lengths


def test_the_error_of_a_weighted_difference_is_that_of_a_bootstrap_over_examples() -> None:
    """Nats per byte: a sum of losses over a sum of bytes, both of the examples that are drawn."""
    rng = np.random.default_rng(3)
    losses, lengths = weighted(rng, 3, 400)
    losses[:2] += 0.05 * lengths
    found = difference(losses[:2], losses[2:], lengths)
    by_example = losses[:2].mean(axis=0) - losses[2]
    assert found.mean == pytest.approx(by_example.sum() / lengths.sum())
    drawn = rng.integers(0, 400, (4000, 400))
    means = by_example[drawn].sum(axis=1) / lengths[drawn].sum(axis=1)
    assert found.examples_error == pytest.approx(means.std(), rel=0.05)
    t = found.mean / found.examples_error
    assert found.examples_p == pytest.approx(2 * stats.t.sf(abs(t), 399))


def test_weights_of_one_change_nothing_and_their_unit_is_that_of_the_metric() -> None:
    losses, lengths = weighted(np.random.default_rng(5), 4, 50)
    plain, ones = difference(losses[:2], losses[2:]), difference(losses[:2], losses[2:], np.ones(50))
    assert dataclasses.astuple(plain) == pytest.approx(dataclasses.astuple(ones))
    bytes_, bits = (difference(losses[:2], losses[2:], lengths * unit) for unit in (1, 8))
    assert (bits.examples_p, bits.seeds_p) == pytest.approx((bytes_.examples_p, bytes_.seeds_p))
    for name in ("mean", "examples_error", "seeds_error"):
        assert getattr(bytes_, name) == pytest.approx(8 * getattr(bits, name))
    ratios = (losses.sum(axis=1) / lengths.sum()).reshape(2, 2)
    assert bytes_.seeds_p == pytest.approx(stats.ttest_ind(*ratios, equal_var=False).pvalue)


def test_long_examples_count_no_more_than_short_ones_where_all_say_the_same() -> None:
    """With the same difference of the loss a byte everywhere, examples are coins, whatever their lengths."""
    lengths = np.array([[3.0, 50.0, 7.0, 90.0]])
    assert difference(lengths, lengths.copy(), lengths[0]).examples_p == 1
    assert difference(2 * lengths, lengths, lengths[0]).examples_p == 2 * 0.5**4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_what_no_group_of_comparisons_contradicts(p_values: list[float]) -> None:
    """Closed testing: a comparison counts if Bonferroni's test rejects every group that it belongs to."""
    numbers = range(len(p_values))
    groups = [group for size in numbers for group in itertools.combinations(numbers, size + 1)]
    corrected = [
        max(min(1.0, len(group) * min(p_values[i] for i in group)) for group in groups if number in group)
        for number in numbers
    ]
    assert holm(p_values) == pytest.approx(corrected)
    assert holm([]) == []


def test_an_interval_covers_the_mean_over_other_seeds() -> None:
    values = np.array([1.61, 1.58, 1.66])
    assert interval(values) == pytest.approx(
        stats.t.interval(0.95, 2, loc=values.mean(), scale=values.std(ddof=1) / math.sqrt(3))
    )
    assert interval(values[:1]) is None
    rng = np.random.default_rng(0)
    covered = [interval(row, 0.8) for row in rng.standard_normal((2000, 3))]
    assert np.mean([low < 0 < high for low, high in filter(None, covered)]) == pytest.approx(0.8, abs=0.03)


def test_welch_over_seeds_is_scipys() -> None:
    one, other = np.array([1.0, 1.1, 1.3]), np.array([1.4, 1.5])
    assert welch(one, other) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)
    assert welch(one, other[:1]) == pytest.approx(stats.ttest_1samp(one, 1.4).pvalue)
    assert welch(one[:1], other[:1]) is None


@given(
    st.lists(st.integers(0, 1000), min_size=2, max_size=5),
    st.lists(st.integers(0, 1000), min_size=2, max_size=5),
)
def test_a_difference_is_that_of_welchs_test(one: list[int], other: list[int]) -> None:
    made = contrast([(1.0, np.array(one, float)), (-1.0, np.array(other, float))])
    if np.ptp(one) == np.ptp(other) == 0:
        assert made is None
        return
    assert made is not None
    assert made.mean == pytest.approx(np.mean(one) - np.mean(other))
    if 0 in (np.ptp(one), np.ptp(other)):
        return  # scipy warns
    test = stats.ttest_ind(one, other, equal_var=False)
    assert made.p == pytest.approx(test.pvalue, rel=1e-6)
    assert made.interval() == pytest.approx(tuple(test.confidence_interval()), rel=1e-6, abs=1e-9)


def test_a_weighted_sum_covers_its_expectation_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    means, spreads, weights = [1.0, 2.0, 4.0], [0.1, 0.4, 0.2], [1.0, -0.7, -0.3]
    for _ in range(500):
        models = [rng.normal(mean, spread, 4) for mean, spread in zip(means, spreads, strict=True)]
        made = contrast(list(zip(weights, models, strict=True)))
        assert made is not None
        low, high = made.interval()
        hits += low <= np.dot(weights, means) <= high
    assert 0.92 < hits / 500 < 0.98
