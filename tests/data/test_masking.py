"""Masking against fairseq's rules, each stated as a count or a distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import PAD, roberta_roles
from tlc_jax.data.text.masking import mask, slots

VOCAB = 500


def rows(batch: int, length: int, seed: int = 0) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(4, VOCAB - 1, (batch, length)).astype(np.uint16)
    ids[:, 0] = 0
    ids[:, -1] = 2
    return ids


def run(ids: np.ndarray, key: tuple[int, int] = (0, 0), first_row: int = 0, rate: float = 0.15) -> dict:
    return mask(ids, key=key, first_row=first_row, rate=rate, roles=roberta_roles(VOCAB))


def test_twenty_slots_at_length_128() -> None:
    assert slots(128, 0.15) == 20


def test_counts_are_fixed_but_for_the_rounding() -> None:
    """int(19.2 + U): 19 positions in 80 % of the rows and 20 in 20 %."""
    batch = run(rows(20_000, 128))
    counts = batch["weights"].sum(axis=1)
    assert set(counts) == {19.0, 20.0}
    assert abs(np.mean(counts == 20) - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 20_000)


def test_eighty_ten_ten() -> None:
    ids = rows(20_000, 128)
    batch = run(ids)
    used = batch["weights"] == 1
    now = np.take_along_axis(batch["tokens"], batch["positions"], 1)[used]
    target = batch["targets"][used]
    n, tolerance = used.sum(), 5 * np.sqrt(0.25 / used.sum())
    masked, kept = now == VOCAB - 1, now == target
    # a random token is the mask or the target itself once in VOCAB - 4 times each
    assert abs(masked.mean() - (0.8 + 0.1 / (VOCAB - 4))) < tolerance
    assert abs(kept.mean() - (0.1 + 0.1 / (VOCAB - 4))) < tolerance
    random = now[~masked & ~kept]
    assert random.min() == 4, "special tokens but <mask> are never drawn"
    histogram = np.bincount(random, minlength=VOCAB)[4 : VOCAB - 1]
    expected = 0.1 * n / (VOCAB - 4)
    assert np.abs(histogram - expected).max() < 6 * np.sqrt(expected), "uniform over the vocabulary"


def test_every_place_is_drawn_equally_often_specials_too() -> None:
    batch = run(rows(20_000, 64))
    hits = np.bincount(batch["positions"][batch["weights"] == 1], minlength=64)
    expected = hits.sum() / 64
    assert np.abs(hits - expected).max() < 5 * np.sqrt(expected)
    pairs = (batch["positions"] == 5).any(1) & (batch["positions"] == 63).any(1)
    counts = batch["weights"].sum(axis=1)
    expected = np.mean(counts * (counts - 1)) / (64 * 63)  # two given positions, without replacement
    assert abs(pairs.mean() - expected) < 5 * np.sqrt(expected / 20_000)


@given(
    length=st.integers(8, 70),
    batch=st.integers(1, 9),
    rate=st.sampled_from([0.05, 0.15, 0.4, 1.0]),
    seed=st.integers(0, 2**63),
)
def test_what_a_batch_says_is_true(length: int, batch: int, rate: float, seed: int) -> None:
    ids = rows(batch, length, seed % 1000)
    sizes = np.random.default_rng(seed % 997).integers(1, length + 1, batch)
    ids[np.arange(length) >= sizes[:, None]] = PAD
    out = run(ids, key=(seed, 3), rate=rate)
    assert out["positions"].shape == out["weights"].shape == (batch, slots(length, rate))
    for row in range(batch):
        used = out["weights"][row] == 1
        positions = out["positions"][row][used]
        assert int(rate * sizes[row]) <= len(positions) <= int(rate * sizes[row]) + 1
        assert (np.diff(positions) > 0).all(), "in order and without repetition"
        assert (positions < sizes[row]).all(), "never a pad"
        assert (out["targets"][row][used] == ids[row][positions]).all()
        untouched = np.setdiff1d(np.arange(length), positions)
        assert (out["tokens"][row][untouched] == ids[row][untouched]).all()
        assert not out["positions"][row][~used].any()


@given(split=st.integers(1, 31), key=st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_a_host_builds_its_rows_alone(split: int, key: tuple[int, int]) -> None:
    ids = rows(32, 40)
    whole, head, tail = run(ids, key), run(ids[:split], key), run(ids[split:], key, first_row=split)
    for name in whole:
        np.testing.assert_array_equal(whole[name], np.concatenate([head[name], tail[name]]))


@pytest.mark.parametrize("other", [(1, 0), (0, 1)])
def test_another_key_masks_otherwise(other: tuple[int, int]) -> None:
    ids = rows(4, 128)
    assert (run(ids)["positions"] != run(ids, other)["positions"]).mean() > 0.5
    np.testing.assert_array_equal(run(ids)["tokens"], run(ids)["tokens"])
