"""The encoder-decoder against Hugging Face's Pegasus in float64, and the paper's sizes."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.exports import params_from_pegasus
from tests.golden.make_translation import EPSILON, LENGTHS, SHAPE, pairs, pegasus_logits, positions
from tlc_jax.artifacts.pegasus import pegasus_weights, tied
from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder, sinusoids
from tlc_jax.models.families import ENCODER_DECODER

CONFIG = EncoderDecoderConfig(**SHAPE, norm_epsilon=EPSILON, compute_dtype="float64")
NAMES = ENCODER_DECODER.huggingface_names(CONFIG)
# depth, width -> parameters of T2T's model with a vocabulary of 32768 (without its target space, 32 x width)
COUNTS = {
    (6, 128): 6966784,
    (6, 256): 19438592,
    (6, 512): 60897280,
    (6, 1024): 209874944,
    (6, 2048): 772071424,
    (2, 512): 31496192,
    (8, 512): 75597824,
    (2, 1024): 92352512,
    (8, 1024): 268636160,
}


def our_logits(weights: dict[str, np.ndarray]) -> np.ndarray:
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, params_from_pegasus(weights, NAMES))
        apply = jax.jit(functools.partial(apply_encoder_decoder, CONFIG))
        return np.asarray(apply(params, *map(jnp.asarray, pairs())))


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return max(np.abs(ours[row, :n] - theirs[row, :n]).max() for row, (_, n) in enumerate(LENGTHS))


@pytest.mark.slow
def test_float64_logits_equal_the_golden_file() -> None:
    golden = dict(np.load(Path(__file__).parent.parent / "golden" / "translation.npz"))
    logits = golden.pop("logits")
    assert np.abs(logits).max() > 1
    found = our_logits(golden)
    assert found.dtype == np.float64
    assert largest_difference(found, logits) < 1e-12


@pytest.mark.interop
def test_float64_logits_equal_pegasus_live() -> None:
    pytest.importorskip("torch", reason="needs the extra `interop`")
    pytest.importorskip("transformers", reason="needs the extra `interop`")
    weights, logits = pegasus_logits()
    assert largest_difference(our_logits(weights), logits) < 1e-12


def test_the_way_to_pegasus_and_back_changes_nothing() -> None:
    golden = dict(np.load(Path(__file__).parent.parent / "golden" / "translation.npz"))
    golden.pop("logits")
    params = params_from_pegasus(golden, NAMES)
    again = pegasus_weights(params, NAMES, positions(16, CONFIG.hidden_size))
    assert again.keys() == golden.keys()
    for name, x in golden.items():
        np.testing.assert_allclose(again[name], x, rtol=0, atol=1e-15, err_msg=name)


def test_one_matrix_and_another_first_position_are_the_same_model() -> None:
    """What an export holds: Pegasus with ties, in plain arithmetic where it differs from that without. A pad
    is looked up by the decoder at position 0 only."""
    golden = dict(np.load(Path(__file__).parent.parent / "golden" / "translation.npz"))
    golden.pop("logits")
    whole = pegasus_weights(params_from_pegasus(golden, NAMES), NAMES, positions(16, 16))
    found = tied(whole)
    matrix, scale = found["model.shared.weight"], np.float32(CONFIG.hidden_size**0.5)
    embeddings = {f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")}
    assert whole.keys() - found.keys() == {"lm_head.weight", *embeddings}
    first = "model.decoder.embed_positions.weight"
    for name, x in found.items():
        if name not in (first, "model.shared.weight"):
            np.testing.assert_array_equal(x, whole[name].astype(np.float32), err_msg=name)
    np.testing.assert_array_equal(found[first][1:], whole[first][1:].astype(np.float32))
    expected = whole["model.shared.weight"][0] * scale + whole[first][0]  # the pad's row there is zero
    np.testing.assert_allclose(matrix[0] * scale + found[first][0], expected, rtol=0, atol=1e-6)
    assert np.abs(matrix[0] * scale).max() > 0.1, "the test has teeth"
    again = params_from_pegasus(found, NAMES)
    np.testing.assert_array_equal(
        again["shared"]["token_embedding"], whole["lm_head.weight"].astype(np.float32)
    )


def test_sinusoids_equal_the_formula() -> None:
    np.testing.assert_allclose(sinusoids(40, 12), positions(40, 12), atol=1e-12)


@pytest.mark.parametrize("size", COUNTS, ids=str)
def test_parameter_counts(size: tuple[int, int]) -> None:
    config = EncoderDecoderConfig(num_layers=size[0], hidden_size=size[1])
    params = jax.eval_shape(functools.partial(init_encoder_decoder, config), jax.random.key(0))
    assert tree.count(params) == COUNTS[size] - 32 * size[1]


@pytest.mark.slow
def test_a_target_token_knows_only_those_before_it() -> None:
    config = EncoderDecoderConfig(num_layers=2, hidden_size=16, head_size=8, vocab_size=30)
    params = init_encoder_decoder(config, jax.random.key(0))
    rng = np.random.default_rng(1)
    source, target = rng.integers(3, 30, (2, 5)), rng.integers(3, 30, (2, 6))
    apply = jax.jit(functools.partial(apply_encoder_decoder, config))
    one = np.asarray(apply(params, source, target))
    changed = target.copy()
    changed[:, 3] = (changed[:, 3] - 2) % 27 + 3
    other = np.asarray(apply(params, source, changed))
    np.testing.assert_array_equal(one[:, :4], other[:, :4])
    assert (np.abs(one[:, 4:] - other[:, 4:]).max(axis=(1, 2)) > 1e-4).all()


@pytest.mark.slow
def test_pads_of_the_source_change_nothing() -> None:
    config = EncoderDecoderConfig(num_layers=2, hidden_size=16, head_size=8, vocab_size=30)
    params = init_encoder_decoder(config, jax.random.key(0))
    rng = np.random.default_rng(2)
    source, target = (jnp.asarray(rng.integers(3, 30, (2, n))) for n in (5, 6))
    padded = jnp.pad(source, ((0, 0), (0, 4)))
    apply = jax.jit(functools.partial(apply_encoder_decoder, config))
    np.testing.assert_allclose(apply(params, source, target), apply(params, padded, target), atol=1e-5)


def test_float64_without_x64_is_refused() -> None:
    with pytest.raises(UserError, match="JAX_ENABLE_X64"):
        init_encoder_decoder(CONFIG, jax.random.key(0))
