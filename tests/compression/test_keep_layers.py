"""Models of fewer layers: which stay, and that they compute what those layers computed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.compression.methods import KeepLayers
from tlc_jax.compression.pipeline import shrink
from tlc_jax.compression.steps import Model
from tlc_jax.config import EncoderDecoderConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.models.families import family_of

SMALL: dict[str, Any] = {"num_layers": 3, "hidden_size": 8, "head_size": 4, "vocab_size": 20}
ENCODER = ModelConfig(**SMALL, max_positions=8)
CONFIGS = ENCODER, dataclasses.replace(ENCODER, shared_layers="attention"), EncoderDecoderConfig(**SMALL)


def whole(config: Any) -> Model:
    family, rng = family_of(config), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: family.init(config, key), jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32), shapes)
    return Model(params, config, family.prunable_units(config))


def without(params: Any, depth: int, dropped: int) -> Any:
    """Parameters of all layers, of which one adds nothing: what it writes to the sum is zero."""

    def silence(path: Any, x: Any) -> Any:
        keys = [entry.key for entry in path]
        writes = {"output", "contract"} & set(keys)
        return x.at[dropped].set(0) if "layers" in keys and writes and x.shape[0] == depth else x

    return jax.tree_util.tree_map_with_path(silence, params)


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]], ids=["encoder", "encoder-decoder"])
def test_the_model_computes_what_the_layers_that_stay_computed(config: Any) -> None:
    """As the whole model does if the layer that goes adds nothing to the residual sum."""
    model, family = whole(config), family_of(config)
    smaller = shrink(model, (KeepLayers(layers=(0, 2)),))
    ids = jnp.asarray([[5, 6, 7, 8], [9, 10, 11, 12]])
    apply = jax.jit(family.apply, static_argnums=0)
    expected = apply(config, without(model.params, 3, dropped=1), ids, ids % 4)
    actual = apply(smaller.config, smaller.params, ids, ids % 4)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert smaller.config == dataclasses.replace(config, num_layers=2)
    assert smaller.units == family.prunable_units(smaller.config)


def test_shared_parameters_stay() -> None:
    model = whole(CONFIGS[1])
    smaller = shrink(model, (KeepLayers(layers=(1, 2)),))
    before, after = model.params["encoder"]["layers"], smaller.params["encoder"]["layers"]
    query = after["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(query, before["attention"]["query"]["kernel"])
    kernel = after["feed_forward"]["expand"]["kernel"]
    np.testing.assert_array_equal(kernel, before["feed_forward"]["expand"]["kernel"][1:])
    assert smaller.units == family_of(CONFIGS[1]).prunable_units(smaller.config)


def test_which_layers_stay() -> None:
    assert KeepLayers(3).kept(6) == (0, 2, 4)  # DistilBERT's
    assert KeepLayers(4).kept(6) == (0, 1, 3, 4)
    assert KeepLayers(3, "first").kept(6) == (0, 1, 2)
    assert KeepLayers(layers=(0, 5)).kept(6) == (0, 5)
    assert KeepLayers().kept(2) == KeepLayers(2).kept(2) == (0, 1)


@pytest.mark.parametrize("step", [KeepLayers(7), KeepLayers(layers=(0, 6))])
def test_layers_that_are_not_there_are_refused(step: KeepLayers) -> None:
    with pytest.raises(UserError, match="the model has 6 layers, numbered from 0"):
        step.kept(6)


@pytest.mark.parametrize("options", [{"layers": (1, 1)}, {"layers": (-1,)}, {"count": 2, "layers": (0,)}])
def test_options_that_contradict_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="layers"):
        KeepLayers(**options)
