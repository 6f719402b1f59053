"""The encoder against Hugging Face's RobertaPreLayerNorm with the same weights."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden.make_encoder import LENGTHS, SHAPE, huggingface_logits
from tlc_jax.artifacts.huggingface import params_from_huggingface
from tlc_jax.config import ModelConfig
from tlc_jax.models.encoder import apply_mlm
from tlc_jax.models.families import ENCODER

CONFIG = ModelConfig(**SHAPE)


def our_logits(weights: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    params = jax.tree.map(jnp.asarray, params_from_huggingface(weights, ENCODER.huggingface_names(CONFIG)))
    everywhere = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    apply = jax.jit(functools.partial(apply_mlm, CONFIG))
    return np.asarray(apply(params, jnp.asarray(tokens), jnp.asarray(everywhere)))


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Over real tokens: fairseq zeroes embeddings at pads, Hugging Face does not."""
    return max(np.abs(ours[row, :n] - theirs[row, :n]).max() for row, n in enumerate(LENGTHS))


def test_logits_equal_the_golden_file() -> None:
    golden = dict(np.load(Path(__file__).parent.parent / "golden" / "encoder.npz"))
    tokens, logits = golden.pop("tokens"), golden.pop("logits")
    assert np.abs(logits).max() > 1
    assert largest_difference(our_logits(golden, tokens), logits) < 1e-5


@pytest.mark.interop
def test_logits_equal_huggingface_live() -> None:
    pytest.importorskip("torch", reason="needs the extra `interop`")
    pytest.importorskip("transformers", reason="needs the extra `interop`")
    weights, tokens, logits = huggingface_logits()
    assert largest_difference(our_logits(weights, tokens), logits) < 1e-5
