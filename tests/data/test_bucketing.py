"""Batches in a few shapes: every example once an epoch, shares kept, little padding, pure in (seed, step)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tlc_jax.core.vocabulary import PAD
from tlc_jax.data.bucketing import EMPTY, Buckets, Plan, Stretch
from tlc_jax.data.labelled.example_batches import LENGTHS, example_buckets, fitted_lengths
from tlc_jax.data.labelled.example_batches import gather as gather_examples
from tlc_jax.data.labelled.packed_examples import EncodedExamples
from tlc_jax.data.pairs.pair_batches import EncodedPairs, choose_shapes, gather, pair_buckets

LONGEST = 60
sizes_of_examples = st.lists(st.integers(1, LONGEST), min_size=1, max_size=60)
sizes_of_pairs = st.lists(
    st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST)), min_size=1, max_size=60
)


def examples(sizes: list[int]) -> EncodedExamples:
    """Example i consists of ids 4 + i."""
    ids = np.repeat(np.arange(len(sizes)) + 4, sizes).astype(np.uint16)
    return EncodedExamples(ids, np.cumsum([0, *sizes]), np.arange(len(sizes), dtype=np.int32) % 3)


def pairs(lengths: np.ndarray) -> EncodedPairs:
    """Pairs of these lengths; the tokens of pair i are all i + 1."""
    sides = []
    for side in (0, 1):
        sides.append(np.repeat(np.arange(len(lengths)) + 1, lengths[:, side]))
        sides.append(np.cumsum([0, *lengths[:, side]]))
    return EncodedPairs(*sides)


def natural(count: int, seed: int = 0) -> np.ndarray:
    """Lengths as sentences have them: many short ones, both sides alike."""
    rng = np.random.default_rng(seed)
    source = rng.lognormal(2.6, 0.5, count)
    target = source * rng.normal(1.15, 0.15, count).clip(0.6, 2)
    return np.clip(np.stack([source, target], axis=1).astype(int), 2, LONGEST)


def buckets_of(lengths: np.ndarray, *, stretches=None, tokens: int = 600, multiple: int = 4) -> Buckets:
    shapes = choose_shapes(lengths, np.ones(len(lengths)), LONGEST, 32)
    return pair_buckets(pairs(lengths), shapes, tokens, multiple, stretches)


def used(plan: Plan) -> np.ndarray:
    indices = np.concatenate([indices for _, indices in plan])
    return indices[indices != EMPTY]


@given(sizes=sizes_of_examples, batch_size=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_example_once_an_epoch(sizes: list[int], batch_size: int, seed: int) -> None:
    buckets = example_buckets(examples(sizes), batch_size, LONGEST)
    count = len(buckets.plan())
    assert count == -(-len(sizes) // batch_size), "no more batches than one length would make"
    for epoch in range(3):
        plan = [buckets.of_step(seed, step) for step in range(epoch * count, (epoch + 1) * count)]
        for (length,), indices in plan:
            assert len(indices) == batch_size
            assert length in (*LENGTHS, LONGEST)
            assert max(sizes[i] for i in indices if i != EMPTY) <= length
        assert sorted(used(plan)) == list(range(len(sizes)))


@given(sizes=sizes_of_examples, batch_size=st.integers(1, 9))
def test_samples_have_every_shape_that_comes(sizes: list[int], batch_size: int) -> None:
    buckets = example_buckets(examples(sizes), batch_size, LONGEST)
    known = {shape for shape, _ in buckets.samples()}
    steps = range(3 * len(buckets.plan()))
    assert {buckets.of_step(seed, step)[0] for seed in range(3) for step in steps} == known


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    buckets = example_buckets(examples([5] * 200), 10, LONGEST)

    def epoch(seed: int, number: int) -> np.ndarray:
        return used([buckets.of_step(seed, step) for step in range(number * 20, (number + 1) * 20)])

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0)]
    np.testing.assert_array_equal(orders[0], epoch(0, 0))  # whatever was asked before
    for i, order in enumerate(orders):
        for earlier in orders[:i]:
            assert np.mean(order == earlier) < 0.1


def test_padding_of_examples_is_what_is_computed_and_not_used() -> None:
    buckets = example_buckets(examples([16] * 4 + [30] * 2), 2, LONGEST)
    assert buckets.padding() == 1 - (4 * 16 + 2 * 30) / (4 * 16 + 2 * 32)


@given(sizes_of_pairs)
def test_every_pair_once_an_epoch(sizes: list[tuple[int, int]]) -> None:
    lengths = np.array(sizes)
    buckets = buckets_of(lengths, multiple=2, tokens=200)
    rows = dict(zip(buckets.shapes, buckets.rows, strict=True))
    for epoch in (0, 1):
        plan = buckets.epoch(1, epoch)
        np.testing.assert_array_equal(np.sort(used(plan)), np.arange(len(lengths)))
        for shape, indices in plan:
            assert len(indices) == rows[shape]
            assert len(indices) % 2 == 0
            assert len(indices) * max(shape) <= 200
            assert (lengths[indices[indices != EMPTY]] <= shape).all()
    assert buckets.epoch_of(1, len(buckets.epoch(1, 0))) == 1


def test_padding_of_pairs_is_below_ten_percent() -> None:
    lengths = natural(20_000)
    buckets = buckets_of(lengths, tokens=2048, multiple=8)
    computed = sum(len(indices) * sum(shape) for shape, indices in buckets.epoch(0, 0))
    assert buckets.padding() == pytest.approx(1 - lengths.sum() / computed)
    assert buckets.padding() < 0.1
    assert len(buckets.shapes) <= 32


def test_a_step_is_a_function_of_seed_and_number() -> None:
    lengths = natural(500)
    stretches = [Stretch(0, 100, 170), Stretch(100, 400, 330)]
    forward, again = (buckets_of(lengths, stretches=stretches) for _ in range(2))
    for seed in (3, 4, 3):
        steps = [forward.of_step(seed, step) for step in range(120)]
        for step in (119, 0, 57):
            shape, indices = again.of_step(seed, step)
            assert shape == steps[step][0]
            np.testing.assert_array_equal(indices, steps[step][1])
    assert not np.array_equal(used(forward.epoch(3, 0)), used(forward.epoch(4, 0)))


def test_steps_run_through_epoch_after_epoch() -> None:
    buckets = buckets_of(natural(300))
    count = len(buckets.epoch(5, 0))
    second = [buckets.of_step(5, count + step) for step in range(count)]
    np.testing.assert_array_equal(np.sort(used(second)), np.arange(300))
    assert buckets.epoch_of(5, count - 1) == 0
    assert buckets.epoch_of(5, count) == 1


def test_shares_are_kept_and_every_pair_has_its_turn() -> None:
    buckets = buckets_of(natural(1000), stretches=[Stretch(0, 100, 500), Stretch(100, 900, 500)])
    counts = np.zeros(1000, int)
    steps = 0
    for epoch in range(9):
        plan = buckets.epoch(0, epoch)
        assert (used(plan) < 100).sum() == (used(plan) >= 100).sum() == 500
        np.add.at(counts, used(plan), 1)
        assert buckets.epoch_of(0, steps) == epoch
        steps += len(plan)
    assert (counts[:100] == 45).all()  # 9 epochs of 500 are 45 passes over 100 pairs
    assert (counts[100:] == 5).all()  # and 5 over 900


def test_rows_of_examples() -> None:
    batch = gather_examples(examples([3, 5, 1]), (8,), np.array([1, EMPTY, 0]))
    rows = [[5] * 5 + [PAD] * 3, [PAD] * 8, [4] * 3 + [PAD] * 5]
    np.testing.assert_array_equal(batch["tokens"], rows)
    np.testing.assert_array_equal(batch["targets"], [1, 0, 0])
    np.testing.assert_array_equal(batch["weights"], [1, 0, 1])


def test_rows_of_pairs() -> None:
    batch = gather(pairs(np.array([[3, 2], [1, 4], [2, 2]])), (4, 5), np.array([2, EMPTY, 0]))
    assert batch["source"].tolist() == [[3, 3, 0, 0], [0] * 4, [1, 1, 1, 0]]
    assert batch["target"].tolist() == [[3, 3, 0, 0, 0], [0] * 5, [1, 1, 0, 0, 0]]


@pytest.mark.slow
def test_shapes_of_long_sentences_take_no_more_memory_than_those_of_short_ones() -> None:
    """Every length up to 4,096 occurs: with shapes 8 apart they asked for 70 GiB."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 4097, (20_000, 2))
    shapes = choose_shapes(lengths, np.ones(len(lengths)), 4096, 4)
    assert shapes[0] == (4096, 4096)
    assert len(shapes) == 4


@settings(max_examples=40)
@given(st.lists(st.integers(3, 40), min_size=32, max_size=90), st.integers(1, 3))
def test_fitted_lengths_leave_the_least_padding_of_all_choices(sizes: list[int], most: int) -> None:
    """Against every choice of as many even lengths (multiples of 4 above 32)."""
    lengths, rows = np.array(sizes), max(1, len(sizes) // (16 * most))
    chosen = fitted_lengths(lengths, rows)
    allowed = [n for n in range(2, 42) if n % (2 if n <= 32 else 4) == 0]
    end = min(n for n in allowed if n >= lengths.max())
    assert chosen[-1] == end
    assert len(chosen) <= len(sizes) // (16 * rows)

    def computed(choice: Iterable[int]) -> int:
        ends = np.array(sorted(choice))
        return int(ends[np.searchsorted(ends, lengths)].sum())

    below = [n for n in allowed if n < end]
    choices = itertools.combinations(below, len(chosen) - 1)
    assert computed(chosen) == min(computed((*choice, end)) for choice in choices)
    if len(chosen) < min(len(sizes) // (16 * rows), 12) and computed(chosen) > lengths.sum() / 0.91:
        assert computed(chosen) == computed([*below, end]), "no further length saves anything"


def test_few_of_the_tokens_of_short_sentences_are_padding() -> None:
    """As many as SST-2 has, with its lengths: of WordPieces about a shifted geometric distribution."""
    lengths = np.minimum(3 + np.random.default_rng(0).geometric(1 / 10.3, 64_000), 64)
    fitted = fitted_lengths(lengths, 32)
    data = examples(lengths.tolist())
    padding = [example_buckets(data, 32, 64, each).padding() for each in (LENGTHS, fitted)]
    assert padding[0] > 0.35
    assert padding[1] < 0.1
    assert len(fitted) <= 12
    assert len(fitted_lengths(lengths[:500], 32)) == 1, "compiling more would take longer than the padding"
