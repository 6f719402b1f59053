"""Networks with packed weights compute what they compute with the floats that these stand for. Matrices are
cut into tiles here as those of large models are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.families import EXAMPLES
from tests.quantized import random_codes, with_codes
from tlc_jax.config import EncoderDecoderConfig, ModelConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.packed import PackedTensor
from tlc_jax.core.tree import Params, flatten
from tlc_jax.models import weights
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.encoder_decoder import init_encoder_decoder
from tlc_jax.models.families import FAMILIES
from tlc_jax.tasks.decoder import search

SMALL = {"num_layers": 2, "hidden_size": 16, "head_size": 8, "vocab_size": 40}


@pytest.fixture(autouse=True)
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_TILE", 300)
    monkeypatch.setattr(weights, "_SMALL", 50)


def new(init: Callable[..., Params], *how: Any) -> Params:
    """Random parameters; the matrices get others."""
    shapes, random = (
        jax.eval_shape(functools.partial(init, *how), jax.random.key(0)),
        np.random.default_rng(0),
    )
    return jax.tree.map(lambda x: random.standard_normal(x.shape, np.float32), shapes)


def both(function: Callable[[Params], Any], params: Params, spec: QuantSpec, sparsity: float = 0.0) -> Any:
    """What a program computes with packed weights, and with floats."""
    floats, packed = with_codes(params, spec, sparsity)
    assert any(isinstance(x, PackedTensor) for x in flatten(packed).values())
    return tuple(jax.device_get(jax.jit(function)(params)) for params in (packed, floats))


def close(found: np.ndarray, expected: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.ptp(expected) > 1e-3  # they say something
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_logits_are_those_of_the_floats(family: Any) -> None:
    config, inputs = EXAMPLES[family.name].config, EXAMPLES[family.name].inputs
    found, expected = both(
        lambda params: family.apply(config, params, *inputs),
        new(family.init, config),
        QuantSpec(5, "row"),
        0.4,
    )
    close(found, expected)


CLASSIFIERS = {
    "bert": {"architecture": "bert", "token_types": 2, "position_offset": 0},
    "shared": {"shared_layers": "attention"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_with_and_without_shared_layers(name: str) -> None:
    config = ModelConfig(**SMALL, max_positions=16, **CLASSIFIERS[name])
    tokens = jnp.asarray(np.random.default_rng(0).integers(5, 40, (3, 8)), jnp.int32)
    found, expected = both(
        lambda params: apply_classifier(config, params, tokens, classes=3),
        new(init_classifier, config, 3),
        QuantSpec(3, zero="symmetric"),
    )
    close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 2])
def test_translations_are_those_of_the_floats(beams: int) -> None:
    config = EncoderDecoderConfig(**SMALL)
    source = jnp.asarray(np.random.default_rng(0).integers(3, 40, (3, 8)), jnp.int32)
    limits = jnp.full(3, 12)
    found, expected = both(
        lambda params: search(config, params, source, limits, beams=beams, alpha=0.6),
        new(init_encoder_decoder, config),
        QuantSpec(4, "group:8", zero="symmetric"),
    )
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    assert len(np.unique(found.tokens)) > 2
    close(found.scores, expected.scores)


def test_a_program_holds_no_matrix_in_float32() -> None:
    """Whatever the order of its operations: tiles are cut inside loops. Of the floats, it holds every one."""
    kernel = random_codes("a/kernel", (64, 96), QuantSpec(4, "row")).packed(4, -2)

    def shapes(w: Any) -> set[tuple[int, ...]]:
        x = jnp.zeros((1, 5, 64))
        text = jax.jit(weights.product).lower(x, w).as_text()
        return {shape for shape in ((64, 96), (64, 8)) if f"tensor<{shape[0]}x{shape[1]}xf32>" in text}

    assert shapes(kernel) == {(64, 8)}
    assert shapes(np.zeros((64, 96), np.float32)) == {(64, 96)}
