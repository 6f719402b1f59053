"""Unigram and bigram perplexity against the formula, word by word in Python."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import PAD
from tlc_jax.data.text import ngrams


def by_hand(train: np.ndarray, held_out: np.ndarray, vocab: int) -> tuple[float, float]:
    unigrams: Counter = Counter()
    bigrams: dict = defaultdict(Counter)
    for row in train.tolist():
        for first, second in itertools.pairwise(row):
            if second != PAD:
                unigrams[second] += 1
                bigrams[first][second] += 1
    total, types = sum(unigrams.values()), len(unigrams)
    logs: list[tuple[float, float]] = []
    for row in held_out.tolist():
        for first, second in itertools.pairwise(row):
            if second == PAD:
                continue
            p1 = (unigrams[second] + types * (1 / vocab)) / (total + types)
            c, t = sum(bigrams[first].values()), len(bigrams[first])
            p2 = (bigrams[first][second] + t * p1) / (c + t) if c else p1
            logs.append((math.log(p1), math.log(p2)))
    n = len(logs)
    return math.exp(-sum(a for a, _ in logs) / n), math.exp(-sum(b for _, b in logs) / n)


@given(seed=st.integers(0, 1000), vocab=st.integers(6, 30), chunk=st.sampled_from([1, 7, 1 << 22]))
def test_equal_to_the_formula(seed: int, vocab: int, chunk: int) -> None:
    rng = np.random.default_rng(seed)
    train = rng.zipf(1.5, (9, 8)).clip(0, vocab - 1).astype(np.uint16)
    held_out = rng.integers(0, vocab, (4, 8)).astype(np.uint16)
    train[train == PAD] = 2
    held_out[held_out == PAD] = 2
    held_out[-1, 5:] = PAD
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_CHUNK", chunk)
        perplexities = ngrams.perplexities(train, held_out, vocab)
    unigram, bigram = by_hand(train, held_out, vocab)
    assert perplexities["unigram_perplexity"] == pytest.approx(unigram, rel=1e-9)
    assert perplexities["bigram_perplexity"] == pytest.approx(bigram, rel=1e-9)


def test_probabilities_sum_to_one() -> None:
    """Every continuation of one history as a held-out row each: the probabilities add up to 1."""
    vocab = 12
    train = np.random.default_rng(0).integers(2, vocab, (20, 8))
    words = [w for w in range(vocab) if w != PAD]
    each = [ngrams.perplexities(train, np.array([[5, w]]), vocab)["bigram_perplexity"] for w in words]
    total = sum(1 / perplexity for perplexity in each)
    p_pad = ngrams.perplexities(train, np.array([[5, 2]]), vocab)
    assert total < 1
    # what is missing is the mass that smoothing leaves for <pad>: the uniform share of the unigram
    assert 1 - total < 1 / vocab
    assert p_pad["counted_tokens"] == 20 * 7


def test_a_large_text_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "LARGEST_SAMPLE", 400)
    rows = np.random.default_rng(0).integers(2, 20, (100, 8))
    assert ngrams.perplexities(rows, rows[:5], 20)["counted_tokens"] == 50 * 7
