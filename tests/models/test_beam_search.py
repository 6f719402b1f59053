"""Beam search against brute force and against a plain search in numpy; the cached decoder against the whole
one."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.make_decoding import BEAMS, LIMIT, SHAPE
from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.stacked import join
from tlc_jax.models.beam_search import Hypotheses, _continuations, beam_search
from tlc_jax.models.decoding import empty_cache, grown, prepare, reordered, step
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.tasks.decoder import search

EOS, PAD = 1, 0
CONFIG = EncoderDecoderConfig(num_layers=2, hidden_size=16, head_size=8, vocab_size=11)


@pytest.fixture(scope="module")
def params() -> dict:
    """Weights large enough that translations differ and end."""
    params = init_encoder_decoder(CONFIG, jax.random.key(3))
    return jax.tree.map(lambda x: 2.0 * x, params)


@functools.cache
def table(vocab: int, length: int, seed: int) -> np.ndarray:
    """Logits [vocab (last token), length, vocab] of a language in which each token depends on the one
    before."""
    return np.random.default_rng(seed).normal(0, 2, (vocab, length, vocab)).astype(np.float32)


def run(logits: np.ndarray, limits: list[int], seen=None, rows=None, **options) -> Hypotheses:
    """Searches a language: its 'cache' is the sum of tokens so far, which shows a wrong reordering. `seen` is
    called with the position of each step, `rows` with that and its tokens."""
    tables = jnp.asarray(logits)

    def own_step(cache, tokens, place):
        if seen:
            jax.debug.callback(seen, place)
        if rows:
            jax.debug.callback(rows, place, tokens)
        total = cache["sum"] + tokens
        shift = 0.1 * total[:, :, None] * jnp.arange(logits.shape[2])[None, None]
        return tables[tokens, place] + shift, {"sum": total}

    cache = {"sum": jnp.zeros((len(limits), options["beams"]), jnp.int32)}
    length = options.pop("length", max(limits))
    options["reorder"] = lambda cache, parents: {"sum": jnp.take_along_axis(cache["sum"], parents, axis=1)}
    found = jax.jit(lambda: beam_search(own_step, cache, jnp.asarray(limits), length=length, **options))()
    jax.effects_barrier()
    return found


def log_prob(logits: np.ndarray, sequence: tuple[int, ...]) -> float:
    last, seen, total = PAD, 0, 0.0
    for place, token in enumerate(sequence):
        seen += last
        row = logits[last, place].astype(np.float64) + 0.1 * seen * np.arange(logits.shape[2])
        total += row[token] - np.log(np.exp(row - row.max()).sum()) - row.max()
        last = token
    return total


def penalty(length: int, alpha: float) -> float:
    return ((5 + length) / 6) ** alpha


def every_ending(vocab: int, length: int) -> list[tuple[int, ...]]:
    others = [token for token in range(vocab) if token != EOS]
    return [(*body, EOS) for n in range(length) for body in itertools.product(others, repeat=n)]


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_beam_that_is_wide_enough_finds_the_best_of_all(alpha: float, seed: int) -> None:
    vocab, length = 4, 4
    logits = table(vocab, length, seed)
    best = sorted(
        ((log_prob(logits, own) / penalty(len(own), alpha), own) for own in every_ending(vocab, length)),
        reverse=True,
    )
    found = run(logits, [length], beams=27, alpha=alpha)
    for (score, sequence), tokens, own in zip(best[:10], found.tokens[0], found.scores[0], strict=False):
        assert tuple(np.asarray(tokens)[: len(sequence)]) == sequence
        assert not np.asarray(tokens)[len(sequence) :].any()
        assert own == pytest.approx(score, abs=1e-5)


def plain_search(
    logits: np.ndarray, limit: int, beams: int, alpha: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search in a few lines, to the very limit."""
    alive, finished = [()], []
    for _ in range(limit):
        longer = [(log_prob(logits, (*own, t)), (*own, t)) for own in alive for t in range(logits.shape[2])]
        best = sorted(longer, reverse=True)[: 2 * beams if beams > 1 else 1]
        finished += [(score / penalty(len(own), alpha), own) for score, own in best if own[-1] == EOS]
        alive = [own for _, own in best if own[-1] != EOS][:beams]
    return sorted(finished, reverse=True)[:beams]


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.6, 2.0])
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_equals_a_plain_search(alpha: float, beams: int) -> None:
    limits = [7, 3, 9, 1]
    for seed in range(4):
        logits = table(6, 9, seed)
        found = run(logits, limits, beams=beams, alpha=alpha)
        for row, limit in enumerate(limits):
            expected = plain_search(logits, limit, beams, alpha)
            scores = np.asarray(found.scores[row])
            ended = np.asarray(found.ended[row])
            assert ended.sum() == len(expected) or not expected
            for i, (score, sequence) in enumerate(expected):
                assert scores[i] == pytest.approx(score, abs=1e-4)
                assert tuple(np.asarray(found.tokens[row, i])[: len(sequence)]) == sequence


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_stopping_early_changes_nothing_but_the_work(alpha: float) -> None:
    """The fewer hypotheses are asked for, the sooner it ends."""
    steps = dict.fromkeys((None, 3, 2, 1), 0)
    for seed in range(6):
        logits = table(6, 12, seed)
        logits[:, :, EOS] += 2  # most sentences end long before the limit
        options = {"beams": 3, "alpha": alpha}
        whole = run(logits, [12, 12], **options, stop_early=False)
        for best in steps:
            places: list[int] = []
            found = run(logits, [12, 12], **options, best=best, seen=places.append)
            steps[best] += len(places)
            np.testing.assert_array_equal(found.tokens, whole.tokens[:, :best])
            np.testing.assert_array_equal(found.scores, whole.scores[:, :best])
            np.testing.assert_array_equal(found.ended, whole.ended[:, :best])
    assert steps[None] == steps[3]
    assert 6 < steps[1] < steps[2] < steps[3] < 6 * 12


def test_without_an_end_the_best_that_is_alive_counts() -> None:
    logits = table(5, 6, 0).copy()
    logits[:, :, EOS] = -1e9
    found = run(logits, [6, 2], beams=2, alpha=0.6)
    assert not np.asarray(found.ended).any()
    for row, limit in enumerate((6, 2)):
        tokens = tuple(np.asarray(found.tokens[row, 0])[:limit])
        assert np.asarray(found.scores[row, 0]) == pytest.approx(
            log_prob(logits, tokens) / penalty(limit, 0.6), abs=1e-4
        )


@pytest.mark.parametrize(
    ("limits", "ends", "work"),
    [
        ([2, 12, 0, 9, 3, 12], True, None),
        ([2, 12, 0, 9, 3, 12], False, 6 * 3 + 3 * 9),  # three are left after three tokens
        ([9, 12, 12, 12], False, 4 * 12),
        ([0, 0], False, 0),
        ([5, 2, 7], False, 3 * 7),  # an odd number stays together
    ],
)
def test_sentences_that_are_left_are_computed_alone(limits: list[int], ends: bool, work: int | None) -> None:
    """The same hypotheses with fewer rows; the sum of its tokens shows a row that was mixed up."""
    logits, rows = table(7, 12, 4).copy(), {True: 0, False: 0}
    logits[:, :, EOS] -= 3.0 if ends else 1e9
    found = {}
    for halve in (True, False):

        def count(place, tokens, halve=halve) -> None:
            rows[halve] += len(tokens)

        options = {"select": lambda cache, chosen: {"sum": cache["sum"][chosen]}} if halve else {}
        found[halve] = run(logits, limits, rows=count, beams=2, alpha=0.6, best=1, length=12, **options)
    np.testing.assert_array_equal(found[True].tokens, found[False].tokens)
    np.testing.assert_array_equal(found[True].ended, found[False].ended)
    np.testing.assert_allclose(found[True].scores, found[False].scores, rtol=1e-6)
    assert rows[True] <= rows[False]
    assert work is None or rows == {True: work, False: len(limits) * max(limits)}


@pytest.mark.slow
def test_a_sentence_does_not_depend_on_its_neighbours() -> None:
    logits = table(6, 9, 1)
    together = run(logits, [9, 4, 7], beams=3, alpha=0.6)
    for row, limit in enumerate((9, 4, 7)):
        alone = run(logits, [limit], beams=3, alpha=0.6, length=9)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(together.scores[row], alone.scores[0], atol=1e-6)


@pytest.mark.slow
def test_the_best_continuations_are_found_chunk_by_chunk() -> None:
    logits = jax.random.normal(jax.random.key(0), (3, 2, 5000)) * 3
    before = jnp.array([[0.0, -1.0], [-2.0, -7.0], [0.5, 0.1]])
    tokens, log_probs = _continuations(logits, before, 8)
    expected = jax.nn.log_softmax(logits, axis=-1) + before[:, :, None]
    best, where = jax.lax.top_k(expected, 8)
    np.testing.assert_array_equal(tokens, where)
    np.testing.assert_allclose(log_probs, best, rtol=1e-5)


@pytest.mark.slow
def test_the_cached_decoder_gives_the_logits_of_the_whole_one(params: dict) -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(2, 11, (3, 6))
    source[1, 4:] = PAD
    target = rng.integers(2, 11, (3, 2, 5))
    ready = prepare(CONFIG, params, jnp.asarray(source), 5)
    cache, last = empty_cache(CONFIG, ready, 2, 2), jnp.zeros((3, 2), jnp.int32)
    apply = jax.jit(functools.partial(apply_encoder_decoder, CONFIG))
    one_step = jax.jit(functools.partial(step, CONFIG))
    for beam in range(2):
        whole = apply(params, jnp.asarray(source), jnp.asarray(target[:, beam]))
        if beam == 0:
            found = []
            for place in range(5):
                cache = grown(cache, 5) if place == 2 else cache
                logits, cache = one_step(ready, cache, last, jnp.int32(place))
                found.append(logits)
                last = jnp.asarray(target[:, :, place])
        np.testing.assert_allclose(jnp.stack(found, axis=2)[:, beam], whole, atol=2e-5)


@pytest.mark.slow
def test_hypotheses_that_change_places_keep_their_own_past(params: dict) -> None:
    """The second goes on in the first's place and the first in the second's, twice."""
    ready = prepare(CONFIG, params, jnp.asarray([[4, 7, 3, EOS]]), 4)
    cache, tokens = empty_cache(CONFIG, ready, 2, 4), jnp.asarray([[[5, 6, 7], [8, 9, 10]]])
    one_step, last, found = jax.jit(functools.partial(step, CONFIG)), jnp.zeros((1, 2), jnp.int32), []
    for place in range(4):
        logits, cache = one_step(ready, cache, last, jnp.int32(place))
        found.append(logits[:, ::-1] if place % 2 else logits)
        if place < 3:
            cache, last = (
                reordered(cache, jnp.asarray([[1, 0]])),
                tokens[:, :: (1 if place % 2 else -1), place],
            )
    apply = jax.jit(functools.partial(apply_encoder_decoder, CONFIG))
    for beam in range(2):
        whole = apply(params, jnp.asarray([[4, 7, 3, EOS]]), jnp.pad(tokens[:, beam], ((0, 0), (0, 1))))
        np.testing.assert_allclose(jnp.stack(found, axis=2)[:, beam], whole, atol=2e-5)


@pytest.mark.slow
def test_greedy_takes_the_best_token_each_time(params: dict) -> None:
    source = jnp.asarray([[4, 7, 3, EOS], [9, EOS, 0, 0]])
    limits = jnp.asarray([12, 12])
    found = jax.jit(functools.partial(search, CONFIG, beams=1, alpha=0.6))(params, source, limits)
    apply = jax.jit(functools.partial(apply_encoder_decoder, CONFIG))
    for row in range(2):
        tokens: list[int] = []
        while len(tokens) < 12 and EOS not in tokens:
            padded = jnp.asarray([[*tokens, *[PAD] * (12 - len(tokens))]])
            logits = apply(params, source[row : row + 1], padded)
            tokens.append(int(logits[0, len(tokens)].argmax()))
        assert np.asarray(found.tokens[row, 0])[: len(tokens)].tolist() == tokens


def golden() -> dict[str, np.ndarray]:
    return dict(np.load(Path(__file__).parent.parent / "golden" / "decoding.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, BEAMS])
def test_equals_generate_of_huggingface_with_the_same_weights(beams: int) -> None:
    found = golden()
    source, expected, scores = found.pop("source"), found.pop("beams"), found.pop("scores")
    expected = expected if beams > 1 else found["greedy"][:, None]
    del found["greedy"]
    config = EncoderDecoderConfig(**SHAPE)
    limits = jnp.full(len(source), LIMIT)
    own = jax.jit(functools.partial(search, config, beams=beams, alpha=0.0))(join(found), source, limits)
    np.testing.assert_array_equal(np.asarray(own.tokens)[:, :, :LIMIT], expected)
    if beams > 1:  # generate computes in float32, 8e-4 from float64
        with jax.enable_x64(True):
            wide = dataclasses.replace(config, compute_dtype="float64")
            params = {path: x.astype(np.float64) for path, x in found.items()}
            exact = jax.jit(functools.partial(search, wide, beams=beams, alpha=0.0))(
                join(params), source, limits
            )
        np.testing.assert_array_equal(exact.tokens, own.tokens)
        np.testing.assert_allclose(exact.scores, scores, atol=1e-3)
        np.testing.assert_allclose(own.scores, exact.scores, atol=2e-3)
    assert len(np.unique(expected.reshape(-1, LIMIT), axis=0)) >= 5
