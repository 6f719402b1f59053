"""Batches of unlike lengths: every example once an epoch, in few shapes, pure in (seed, step)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import PAD
from tlc_jax.data.labelled.examples import EncodedExamples
from tlc_jax.data.labelled.length_buckets import LENGTHS, Buckets, gather

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=60)


def examples(sizes: list[int]) -> EncodedExamples:
    """Example i consists of ids 4 + i."""
    ids = np.repeat(np.arange(len(sizes)) + 4, sizes).astype(np.uint16)
    return EncodedExamples(ids, np.cumsum([0, *sizes]), np.arange(len(sizes), dtype=np.int32) % 3)


@given(sizes=lengths, batch_size=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_example_once_an_epoch(sizes: list[int], batch_size: int, seed: int) -> None:
    buckets = Buckets(examples(sizes), batch_size, 60)
    count = buckets.batches_per_epoch
    assert count == -(-len(sizes) // batch_size), "no more batches than one length would make"
    for epoch in range(3):
        seen = []
        for step in range(epoch * count, (epoch + 1) * count):
            length, places = buckets.of_step(seed, step)
            assert len(places) == batch_size
            real = places[places >= 0]
            assert length in (*LENGTHS, 60)
            assert max(sizes[i] for i in real) <= length
            seen += real.tolist()
        assert sorted(seen) == list(range(len(sizes)))


@given(sizes=lengths, batch_size=st.integers(1, 9))
def test_shapes_names_every_shape_that_comes(sizes: list[int], batch_size: int) -> None:
    buckets = Buckets(examples(sizes), batch_size, 60)
    known = {length for length, _ in buckets.shapes()}
    steps = range(3 * buckets.batches_per_epoch)
    assert {buckets.of_step(seed, step)[0] for seed in range(3) for step in steps} <= known


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    buckets = Buckets(examples([5] * 200), 10, 60)

    def epoch(seed: int, number: int) -> list[int]:
        return [i for step in range(number * 20, (number + 1) * 20) for i in buckets.of_step(seed, step)[1]]

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0)]
    assert orders[0] == epoch(0, 0), "pure in (seed, step), whatever was asked before"
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert np.mean(np.array(one) == np.array(other)) < 0.1


def test_gathered_rows() -> None:
    batch = gather(examples([3, 5, 1]), 8, np.array([1, -1, 0]))
    np.testing.assert_array_equal(batch["tokens"][0], [5] * 5 + [PAD] * 3)
    np.testing.assert_array_equal(batch["tokens"][1], [PAD] * 8)
    np.testing.assert_array_equal(batch["tokens"][2], [4] * 3 + [PAD] * 5)
    np.testing.assert_array_equal(batch["targets"][[0, 2]], [1, 0])
    np.testing.assert_array_equal(batch["weights"], [1, 0, 1])


def test_padding_is_what_is_computed_and_not_used() -> None:
    buckets = Buckets(examples([16] * 4 + [30] * 2), 2, 60)
    assert buckets.padding() == 1 - (4 * 16 + 2 * 30) / (4 * 16 + 2 * 32)
