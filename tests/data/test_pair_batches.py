"""Batches of pairs: every pair once an epoch, shares kept, few pads, pure in (seed, step)."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tlc_jax.data.pairs.pair_batches import EncodedPairs, PairBatches, Stretch, choose_shapes, gather

LONGEST = 60


def encoded(lengths: np.ndarray) -> EncodedPairs:
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


def batches(lengths: np.ndarray, *, stretches=None, tokens: int = 600, multiple: int = 4) -> PairBatches:
    shapes = choose_shapes(lengths, np.ones(len(lengths)), LONGEST, 32)
    whole = [Stretch(0, len(lengths), len(lengths))]
    return PairBatches(encoded(lengths), stretches or whole, shapes, tokens, multiple)


def test_every_pair_is_in_an_epoch_once() -> None:
    lengths = natural(1000)
    own = batches(lengths)
    for epoch in (0, 1):
        plan = own.plan_of_epoch(7, epoch)
        places = np.concatenate(plan.places)
        np.testing.assert_array_equal(np.sort(places[places >= 0]), np.arange(1000))
        for number, chosen in zip(plan.shapes, plan.places, strict=True):
            assert len(chosen) == own.rows[number]
            assert len(chosen) % 4 == 0
            assert (lengths[chosen[chosen >= 0]] <= own.shapes[number]).all()
            assert len(chosen) * max(own.shapes[number]) <= 600
    orders = [np.concatenate(own.plan_of_epoch(7, epoch).places).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_padding_is_below_ten_percent() -> None:
    lengths = natural(20_000)
    own = batches(lengths, tokens=2048, multiple=8)
    plan = own.plan_of_epoch(0, 0)
    computed = sum(own.rows[n] * sum(own.shapes[n]) for n in plan.shapes)
    assert own.padding() == pytest.approx(1 - lengths.sum() / computed)
    assert own.padding() < 0.1
    assert len(own.shapes) <= 32


def test_a_step_is_a_function_of_seed_and_number() -> None:
    lengths = natural(500)
    forward, one = batches(lengths), batches(lengths)
    steps = [forward.of_step(3, step) for step in range(120)]
    for step in (119, 0, 57):
        shape, places = one.of_step(3, step)
        assert shape == steps[step][0]
        np.testing.assert_array_equal(places, steps[step][1])
    others = [forward.of_step(4, step)[1] for step in range(3)]
    assert any(not np.array_equal(a, b[1]) for a, b in zip(others, steps, strict=False))


def test_steps_run_through_epoch_after_epoch() -> None:
    own = batches(natural(300))
    per_epoch = len(own.plan_of_epoch(5, 0).places)
    seen = np.concatenate([own.of_step(5, per_epoch + step)[1] for step in range(per_epoch)])
    np.testing.assert_array_equal(np.sort(seen[seen >= 0]), np.arange(300))
    assert own.epoch_of(5, per_epoch - 1) == 0
    assert own.epoch_of(5, per_epoch) == 1


def test_shares_are_kept_and_every_pair_has_its_turn() -> None:
    lengths = natural(1000)
    stretches = [Stretch(0, 100, 500), Stretch(100, 900, 500)]
    own = batches(lengths, stretches=stretches)
    counts = np.zeros(1000, int)
    steps = 0
    for epoch in range(9):
        plan = own.plan_of_epoch(0, epoch)
        places = np.concatenate(plan.places)
        places = places[places >= 0]
        assert (places < 100).sum() == (places >= 100).sum() == 500
        np.add.at(counts, places, 1)
        assert own.epoch_of(0, steps) == epoch
        steps += len(plan.places)
    assert (counts[:100] == 45).all()  # 9 epochs of 500 are 45 passes over 100 pairs
    assert (counts[100:] == 5).all()  # and 5 over 900


@given(st.lists(st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST)), min_size=1, max_size=60))
def test_any_lengths_have_shapes_that_hold_them(pairs: list[tuple[int, int]]) -> None:
    lengths = np.array(pairs)
    own = batches(lengths, multiple=2, tokens=200)
    plan = own.plan_of_epoch(1, 0)
    places = np.concatenate(plan.places)
    np.testing.assert_array_equal(np.sort(places[places >= 0]), np.arange(len(lengths)))
    for number, chosen in zip(plan.shapes, plan.places, strict=True):
        assert (lengths[chosen[chosen >= 0]] <= own.shapes[number]).all()
    assert own.epoch_of(1, len(plan.places)) == 1


def test_rows_hold_their_own_tokens_and_pads() -> None:
    pairs = encoded(np.array([[3, 2], [1, 4], [2, 2]]))
    found = gather(pairs, (4, 5), np.array([2, -1, 0]))
    assert found["source"].tolist() == [[3, 3, 0, 0], [0] * 4, [1, 1, 1, 0]]
    assert found["target"].tolist() == [[3, 3, 0, 0, 0], [0] * 5, [1, 1, 0, 0, 0]]


def test_shapes_of_long_sentences_take_no_more_memory_than_those_of_short_ones() -> None:
    """Every length up to 4,096 comes: with shapes 8 apart they asked for 70 GiB."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 4097, (20_000, 2))
    shapes = choose_shapes(lengths, np.ones(len(lengths)), 4096, 4)
    assert shapes[0] == (4096, 4096)
    assert len(shapes) == 4
