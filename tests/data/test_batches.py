"""Data order: a permutation an epoch, pure in (seed, step), and the thread that runs ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.data.batches import Prefetcher, permute, rows_of_step


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    image = permute(np.arange(size), size, np.array([key], np.uint64))
    np.testing.assert_array_equal(np.sort(image), np.arange(size))


def test_permute_is_well_mixed() -> None:
    """Over many keys, an index lands in each eighth of the range equally often; neighbours part."""
    size, keys = 1000, np.arange(8000, dtype=np.uint64)
    for index in (0, 1, 999):
        image = permute(np.full(len(keys), index), size, keys)
        counts = np.bincount(image * 8 // size, minlength=8)
        assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)
    image = permute(np.arange(size), size, np.array([7], np.uint64))
    assert abs(np.corrcoef(image[:-1], image[1:])[0, 1]) < 0.15


@given(size=st.integers(1, 200), batch_size=st.integers(1, 64), seed=st.integers(0, 10))
def test_each_epoch_sees_every_row_once(size: int, batch_size: int, seed: int) -> None:
    steps = -(-3 * size // batch_size)
    seen = np.concatenate([rows_of_step(seed, s, batch_size=batch_size, size=size) for s in range(steps)])
    for epoch in range(3):
        np.testing.assert_array_equal(np.sort(seen[epoch * size : (epoch + 1) * size]), np.arange(size))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def epoch(seed: int, number: int) -> np.ndarray:
        return rows_of_step(seed, number, batch_size=500, size=500)

    orders = [epoch(0, 0), epoch(0, 1), epoch(1, 0), epoch(1, 1)]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert (one == other).mean() < 0.05


@given(cut=st.integers(0, 16), step=st.integers(0, 1000))
def test_hosts_share_a_batch(cut: int, step: int) -> None:
    whole = rows_of_step(3, step, batch_size=16, size=37)
    parts = [rows_of_step(3, step, batch_size=16, size=37, rows=r) for r in (slice(0, cut), slice(cut, 16))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_prefetcher_keeps_order_and_stops() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    with Prefetcher(make, 5) as results:
        assert [next(results) for _ in range(10)] == [step * step for step in range(5, 15)]
    assert made == list(range(5, 5 + len(made)))
    assert len(made) <= 10 + 4, "it runs a few steps ahead, no more"
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_prefetcher_raises_where_the_result_is_taken() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("row 7 is bad")
        return step

    with Prefetcher(make, 0) as results:
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="row 7"):
            next(results)
