"""The two-sided bigram against sums that are written out word by word, and against a chain whose posterior is
known."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import BOS, PAD, roberta_roles
from tlc_jax.data.text import two_sided_bigram
from tlc_jax.data.text.masking import mask
from tlc_jax.data.text.two_sided_bigram import TwoSidedBigram

END = "end of the row"


def text(seed: int, rows: int, length: int, vocab: int) -> np.ndarray:
    """Rows that begin with <s>; the last one is padded, and some tokens never occur."""
    rng = np.random.default_rng(seed)
    ids = (rng.zipf(1.4, (rows, length)) + 1).clip(2, vocab - 2).astype(np.uint16)
    ids[:, 0] = BOS
    ids[-1, length // 2 :] = PAD
    return ids


def witten_bell(pairs: list[tuple], vocab: int) -> Callable[[object, int], float]:
    """p(word | neighbour) of pairs (neighbour, word)."""
    words, both = Counter(word for _, word in pairs), Counter(pairs)
    total, types = len(pairs), len(words)

    def probability(neighbour: object, word: int) -> float:
        unigram = (words[word] + types / vocab) / (total + types)
        count = sum(times for (first, _), times in both.items() if first == neighbour)
        kinds = sum(first == neighbour for first, _ in both)
        return (both[neighbour, word] + kinds * unigram) / (count + kinds) if count else unigram

    return probability


def by_hand(rows: np.ndarray, vocab: int, rate: float) -> Callable[..., float]:
    """p(target | input) by adding up every word, and each neighbour both as replaced and as not replaced."""
    after, before, words = [], [], []
    for row in rows.tolist():
        tokens = [END, *(x for x in row if x != PAD), END]
        after += [(x, y) for x, y in itertools.pairwise(tokens) if y != END]
        before += [(y, x) for x, y in itertools.pairwise(tokens) if x != END]
        words += [(None, x) for x in tokens[1:-1]]
    left_model, right_model = witten_bell(after, vocab), witten_bell(before, vocab)
    unigram = {w: (Counter(words)[None, w] + len({*words}) / vocab) for w in range(vocab)}
    unigram = {w: value / sum(unigram.values()) for w, value in unigram.items()}

    def seen_as(token: object) -> list[tuple[bool, float]]:
        """(whether it was replaced, probability)."""
        if token == vocab - 1:
            return [(True, 1.0)]
        if token == END or token in range(4):
            return [(False, 1.0)]
        drawn = rate * 0.1 / (vocab - 4)
        kept = (1 - rate * 0.8 - rate * 0.1) * unigram[token]  # type: ignore[index]
        return [(True, drawn / (drawn + kept)), (False, kept / (drawn + kept))]

    def probability(left: object, token: int, right: object, target: int) -> float:
        joint = dict.fromkeys(range(vocab), 0.0)
        for word in joint:
            corrupted = 0.8 * (token == vocab - 1) + 0.1 * (token == word) + 0.1 * (token >= 4) / (vocab - 4)
            for (lost_left, p), (lost_right, q) in itertools.product(seen_as(left), seen_as(right)):
                value = p * q * corrupted * unigram[word]
                value *= 1 if lost_left else left_model(left, word) / unigram[word]
                value *= 1 if lost_right else right_model(right, word) / unigram[word]
                joint[word] += value
        return joint[target] / sum(joint.values())

    return probability


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), vocab=st.integers(8, 12), block=st.sampled_from([1, 1 << 22]))
def test_equal_to_the_sum_over_every_word(seed: int, vocab: int, block: int) -> None:
    """All that masking makes: masks, random and kept tokens, beside each other and at the ends of rows."""
    rate, train, held_out = 0.4, text(seed, 9, 8, vocab), text(seed + 1, 5, 8, vocab)
    expected = by_hand(train, vocab, rate)
    batch = mask(held_out, key=(0, seed), first_row=0, rate=rate, roles=roberta_roles(vocab))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_sided_bigram, "_BLOCK", block)
        patch.setattr(two_sided_bigram, "CHUNK", 20)
        found = TwoSidedBigram(train, roberta_roles(vocab), rate).nats(batch)
    assert not found[batch["weights"] == 0].any()
    for row, slot in zip(*np.nonzero(batch["weights"]), strict=True):
        tokens = [END, *(END if x == PAD else x for x in batch["tokens"][row].tolist()), END]
        left, token, right = tokens[batch["positions"][row, slot] :][:3]
        p = expected(left, token, right, int(batch["targets"][row, slot]))
        assert found[row, slot] == pytest.approx(-np.log(p), rel=1e-9)


@given(seed=st.integers(0, 1000), vocab=st.integers(8, 12), rate=st.sampled_from([0.0, 0.15, 1.0]))
def test_probabilities_sum_to_one(seed: int, vocab: int, rate: float) -> None:
    """Whatever is seen: the ends of a row are pads here, and some tokens never occurred."""
    model = TwoSidedBigram(text(seed, 9, 8, vocab), roberta_roles(vocab), rate)
    words = np.arange(vocab)
    left, token, right, target = (x.ravel() for x in np.meshgrid(words, words, words, words, indexing="ij"))
    possible = token != PAD
    p = model.probability(left[possible], token[possible], right[possible], target[possible])
    assert p.min() >= 0
    assert p.reshape(-1, vocab).sum(axis=1) == pytest.approx(1, rel=1e-12)


def test_of_a_markov_chain_it_is_the_posterior() -> None:
    """Of text in which a token depends on the one before it alone, p(w | l, r) is p(w|l) p(r|w) / p(r|l)."""
    vocab, size, rng = 24, 16, np.random.default_rng(0)
    follows = rng.dirichlet(np.full(size, 0.5), size)
    ids = np.zeros((400, 1000), np.int64)
    for at in range(1, ids.shape[1]):
        ids[:, at] = (follows[ids[:, at - 1]].cumsum(axis=1) < rng.random((len(ids), 1))).sum(axis=1)
    model = TwoSidedBigram(ids.clip(0, size - 1) + 4, roberta_roles(vocab), 0.0)
    two_steps = follows @ follows
    left, right = np.divmod(np.arange(size * size), size)
    common = two_steps[left, right] > 0.01
    left, right = left[common], right[common]
    for word in range(size):
        masked, target = np.full(len(left), vocab - 1), np.full(len(left), word + 4)
        found = model.probability(left + 4, masked, right + 4, target)
        expected = follows[left, word] * follows[word, right] / two_steps[left, right]
        assert np.abs(found - expected).max() < 0.03, "what 400,000 pairs leave open"


def test_a_large_text_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """By evenly spaced rows: the others may hold anything."""
    rows = text(0, 100, 8, 20)
    alone, words = TwoSidedBigram(rows[::2], roberta_roles(20), 0.15), np.arange(4, 19)
    rows[1::2] = 7
    monkeypatch.setattr(two_sided_bigram, "LARGEST_SAMPLE", rows.size // 2)
    sampled, masked = TwoSidedBigram(rows, roberta_roles(20), 0.15), np.full(len(words), 19)
    assert (
        sampled.probability(words, masked, words, words) == alone.probability(words, masked, words, words)
    ).all()
