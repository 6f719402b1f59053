"""The target bigram against the formula, word by word in Python."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import TRANSLATION_EOS as EOS
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.data.pairs import target_bigram
from tlc_jax.data.pairs.pair_batches import EncodedPairs
from tlc_jax.data.pairs.target_bigram import TargetBigram

VOCAB = 14


def sentences(seed: int, count: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[*(rng.zipf(1.5, rng.integers(1, 7)) + 1).clip(2, VOCAB - 1).tolist(), EOS] for _ in range(count)]


def pairs_of(targets: list[list[int]]) -> EncodedPairs:
    """Pairs with these targets; their sources do not matter."""
    offsets = np.cumsum([0, *map(len, targets)])
    sources = np.full(3 * len(targets), 5, np.uint16)
    return EncodedPairs(
        sources,
        np.arange(len(targets) + 1) * 3,
        np.array(list(itertools.chain(*targets)), np.uint16),
        offsets,
    )


def padded(targets: list[list[int]]) -> np.ndarray:
    rows = np.full((len(targets), 9), PAD)
    for row, target in zip(rows, targets, strict=True):
        row[: len(target)] = target
    return rows


def nats_by_hand(train: list[list[int]], target: list[int]) -> list[float]:
    words, followers = Counter(itertools.chain(*train)), defaultdict(Counter)
    for sentence in train:
        for first, second in itertools.pairwise([PAD, *sentence]):
            followers[first][second] += 1
    total, types, result = sum(words.values()), len(words), []
    for first, second in itertools.pairwise([PAD, *target]):
        unigram = (words[second] + types / VOCAB) / (total + types)
        count, kinds = sum(followers[first].values()), len(followers[first])
        p = (followers[first][second] + kinds * unigram) / (count + kinds) if count else unigram
        result.append(-math.log(p))
    return result


@given(seed=st.integers(0, 1000), chunk=st.sampled_from([1, 3, 1 << 22]))
def test_equal_to_the_formula(seed: int, chunk: int) -> None:
    train, targets = sentences(seed, 30), sentences(seed + 1, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_bigram, "CHUNK", chunk)
        found = TargetBigram(pairs_of(train), VOCAB).nats(padded(targets))
    for row, target in zip(found, targets, strict=True):
        assert row[: len(target)] == pytest.approx(nats_by_hand(train, target), rel=1e-9)
        assert not row[len(target) :].any()


def test_probabilities_sum_to_one() -> None:
    """After a token that occurs, and after one that does not; a pad is never predicted but gets its share of
    the uniform distribution."""
    train = [*sentences(0, 30), [12, EOS]]
    model = TargetBigram(pairs_of(train), VOCAB)
    types, total = len({*itertools.chain(*train)}), sum(map(len, train))
    for before in (12, 13):
        found = model.nats(np.array([[before, word] for word in range(1, VOCAB)]))[:, 1]
        assert 0 < 1 - np.exp(-found).sum() <= types / VOCAB / (total + types) + 1e-12


def test_many_targets_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """By evenly spaced chunks: the others may hold anything."""
    train, rows = sentences(0, 40), padded(sentences(1, 5))
    ids = list(itertools.chain(*train))
    monkeypatch.setattr(target_bigram, "CHUNK", 8)
    monkeypatch.setattr(target_bigram, "LARGEST_SAMPLE", len(ids) // 2)
    sampled = TargetBigram(pairs_of(train), VOCAB).nats(rows)
    counted = [x for start in range(0, len(ids), 24) for x in range(start, min(start + 8, len(ids)))]
    pairs = pairs_of(train)
    for index in set(range(len(ids))) - {*counted, *(x - 1 for x in counted)}:
        pairs.target_ids[index] = 5
    assert (TargetBigram(pairs, VOCAB).nats(rows) == sampled).all()
    assert len(counted) < len(ids) / 2
