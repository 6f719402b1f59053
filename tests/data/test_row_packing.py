"""Rows of several pairs: each pair once, little padding, nothing of one pair seen by another."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.bucketing import EMPTY
from tlc_jax.data.pairs.pair_batches import EncodedPairs
from tlc_jax.data.pairs.row_packing import PackedRows, gather_packed, pack_rows, row_shape

SHAPE = (48, 64)


def make_pairs(lengths, seed=0):
    rng = np.random.default_rng(seed)
    sides = []
    for side in np.reshape(lengths, (-1, 2)).T:
        offsets = np.cumsum([0, *side])
        sides += [rng.integers(1, 999, offsets[-1]).astype(np.uint16), offsets]
    return EncodedPairs(*sides)


pairs_of_lengths = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=200)


@settings(max_examples=60, deadline=None)
@given(pairs_of_lengths)
def test_each_pair_is_in_one_row_and_each_row_fits(lengths):
    lengths = np.array(lengths)
    rows = pack_rows(lengths, SHAPE)
    assert sorted(rows.pairs) == list(range(len(lengths)))
    rows.check(lengths, SHAPE)
    for row in range(len(rows)):
        members = rows.pairs[rows.offsets[row] : rows.offsets[row + 1]]
        assert len(members)
        assert (lengths[members].sum(axis=0) <= SHAPE).all()
        np.testing.assert_array_equal(rows.lengths(lengths)[row], lengths[members].sum(axis=0))


@settings(max_examples=40, deadline=None)
@given(pairs_of_lengths, st.randoms(use_true_random=False))
def test_a_batch_holds_the_ids_of_its_pairs_one_after_the_other(lengths, random):
    pairs, packed = make_pairs(lengths), pack_rows(np.array(lengths), SHAPE)
    chosen = np.array([random.choice([EMPTY, *range(len(packed))]) for _ in range(4)])
    batch = gather_packed(pairs, packed, SHAPE, chosen)
    for number, row in enumerate(chosen):
        members = [] if row == EMPTY else packed.pairs[packed.offsets[row] : packed.offsets[row + 1]]
        for side, length, ids, offsets in (
            ("source", SHAPE[0], pairs.source_ids, pairs.source_offsets),
            ("target", SHAPE[1], pairs.target_ids, pairs.target_offsets),
        ):
            parts = [ids[offsets[i] : offsets[i + 1]].tolist() for i in members]
            expected = [*itertools.chain(*parts)]
            segments = [n for n, part in enumerate(parts, 1) for _ in part]
            rest = length - len(expected)
            assert batch[side][number].tolist() == expected + [PAD] * rest
            assert batch[f"{side}_segments"][number].tolist() == segments + [0] * rest


def test_at_most_three_percent_of_the_tokens_are_padding():
    """Lengths as they are in text: log-normal, the target about a fifth longer."""
    rng = np.random.default_rng(0)
    source = np.exp(rng.normal(2.7, 0.6, 20_000))
    lengths = np.stack([source, source * np.exp(rng.normal(0.18, 0.2, 20_000))], axis=1)
    lengths = np.clip(lengths.round().astype(int), 2, 100)
    for longest, length in ((100, 128), (256, 320)):
        ratio = float(lengths[:, 0].sum() / lengths[:, 1].sum())
        shape = row_shape(ratio, longest, length)
        rows = pack_rows(lengths, shape)
        assert max(shape) == length
        assert min(shape) >= longest
        assert lengths.sum() / (len(rows) * sum(shape)) > 0.97


def test_the_shape_of_a_row_follows_the_languages_but_holds_the_longest_sentence():
    assert row_shape(1.0, 100, 128) == (128, 128)
    assert row_shape(7 / 8, 100, 128) == (112, 128)
    assert row_shape(8 / 7, 100, 128) == (128, 112)
    assert row_shape(0.1, 100, 128) == (104, 128)


@pytest.mark.parametrize(
    ("pairs", "offsets", "message"),
    [
        ([0, 1, 1], [0, 2, 3], "each of the 3 pairs once"),
        ([0, 1, 7], [0, 2, 3], "each of the 3 pairs once"),
        ([0, -1, 2], [0, 2, 3], "each of the 3 pairs once"),
        ([0, 1, 2], [0, 2, 2], "each of the 3 pairs once"),
        ([0, 1, 2], [0, 2, 1, 3], "each of the 3 pairs once"),
        ([0, 1, 2], [0, 3], "more tokens than row_shape"),
    ],
)
def test_rows_of_a_stranger_are_refused(pairs, offsets, message):
    rows = PackedRows(np.array(pairs), np.array(offsets))
    with pytest.raises(ValueError, match=message):
        rows.check(np.full((3, 2), 20), SHAPE)
    PackedRows(np.array([2, 0, 1]), np.array([0, 1, 3])).check(np.full((3, 2), 20), SHAPE)
