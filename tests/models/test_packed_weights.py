"""Networks with packed weights compute what they compute with the floats that these stand for; matrices are
cut into tiles as those of large models are."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.families import EXAMPLES
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.config import EncoderDecoderConfig, ModelConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.packed import PackedTensor, stack, summed_axis
from tlc_jax.core.stacked import join, nested, split, stacks
from tlc_jax.core.tree import Params, flatten
from tlc_jax.models import weights
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.families import FAMILIES
from tlc_jax.tasks.decoder import search


def compressed(params: Params, spec: QuantSpec, sparsity: float = 0.0) -> tuple[Params, Params]:
    """Parameters of which matrices are quantized: in floats, and packed."""
    floats, leaves, random = {}, {}, np.random.default_rng(0)
    for name, x in split(params).items():
        floats[name] = x
        if x.ndim == 2:
            mask = random.random(x.shape) >= sparsity if sparsity else None
            leaves[name] = quantize_tensor(name, jnp.asarray(x), spec, mask)
            floats[name] = leaves[name].dense()
    packed = {}
    for path, names in stacks(leaves).items():
        layers = [leaves[name].packed(spec.bits, summed_axis(path)) for name in names]
        packed[path] = layers[0] if names == [path] else stack(layers)
    return join(floats), nested({**flatten(join(floats)), **packed})


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_TILE", 300)
    monkeypatch.setattr(weights, "_SMALL", 50)


def close(found: Any, expected: Any) -> None:
    scale = float(np.abs(np.asarray(expected)).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * max(1.0, scale))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_logits_are_those_of_the_floats(family: Any, tiled: None) -> None:
    config, inputs = EXAMPLES[family.name].config, EXAMPLES[family.name].inputs
    floats, packed = compressed(family.init(config, jax.random.key(0)), QuantSpec(5, "row"), 0.4)
    apply = jax.jit(functools.partial(family.apply, config))
    assert any(isinstance(x, PackedTensor) for x in flatten(packed).values())
    close(apply(packed, *inputs), apply(floats, *inputs))
