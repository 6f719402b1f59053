"""Layers that share parameters (paper, Appendix C) against layers that hold the same values each."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from pathlib import Path

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import assert_equal_runs, lines, parameters, train
from tlc_jax.compression.methods import Quantize
from tlc_jax.compression.pipeline import compress
from tlc_jax.config import ModelConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core import tree
from tlc_jax.core.stacked import join, split
from tlc_jax.models.encoder import Encoder, apply_mlm, init_mlm

UNSHARED = ModelConfig(num_layers=3, hidden_size=32, head_size=8, vocab_size=60, max_positions=16)
ALL, ATTENTION = (dataclasses.replace(UNSHARED, shared_layers=kind) for kind in ("all", "attention"))
TOKENS = jax.random.randint(jax.random.key(2), (2, 8), 4, 60).at[1, 6:].set(1)
POSITIONS = jnp.broadcast_to(jnp.arange(8), (2, 8))

apply = jax.jit(apply_mlm, static_argnums=0)
both = pytest.mark.parametrize("config", [ALL, ATTENTION], ids=lambda config: config.shared_layers)


def drawn(config: ModelConfig) -> dict:
    """Every parameter drawn, biases and scales too, so that each has its part in the result."""
    start = jax.eval_shape(lambda: init_mlm(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.2, jnp.float32), start)


def is_shared(config: ModelConfig, path: str) -> bool:
    inside = ".*" if config.shared_layers == "all" else "attention(_norm)?/.*"
    return re.fullmatch(f"encoder/layers/{inside}", path) is not None


def unshared(config: ModelConfig, params: dict) -> dict:
    """The same values, written out for each layer."""

    def written_out(path: str, x: jax.Array) -> jax.Array:
        return jnp.repeat(x, config.num_layers, axis=0) if is_shared(config, path) else x

    return tree.map_with_path(written_out, params)


@pytest.mark.slow
@both
def test_it_computes_what_the_same_values_in_each_layer_do(config: ModelConfig) -> None:
    params = drawn(config)
    found = apply(config, params, TOKENS, POSITIONS)
    expected = apply(UNSHARED, unshared(config, params), TOKENS, POSITIONS)
    assert float(jnp.std(expected)) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@both
def test_a_shared_gradient_is_the_sum_over_the_layers(config: ModelConfig) -> None:
    params = drawn(config)
    weights = jax.random.normal(jax.random.key(3), (2, 8, 60))

    def gradient(config: ModelConfig, params: dict) -> dict[str, jax.Array]:
        def loss(params: dict) -> jax.Array:
            return jnp.sum(weights * apply_mlm(config, params, TOKENS, POSITIONS))

        return tree.flatten(jax.jit(jax.grad(loss))(params))

    found, each = gradient(config, params), gradient(UNSHARED, unshared(config, params))
    assert found.keys() == each.keys()
    for path, x in found.items():
        layers = np.asarray(each[path])
        expected = layers.sum(axis=0, keepdims=True) if is_shared(config, path) else layers
        assert np.abs(expected).max() > 1e-3 or path.endswith("key/bias"), path  # softmax takes that one out
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=2e-4, err_msg=path)


@pytest.mark.parametrize("size", [(12, 768), (24, 768)])
def test_shared_parameters_are_counted_once(size: tuple[int, int]) -> None:
    layers, h = size
    attention, feed_forward = 4 * (h * h + h) + 2 * h, 2 * 4 * h * h + 4 * h + h + 2 * h
    whole = ModelConfig(num_layers=layers, hidden_size=h)
    expected = {
        "none": layers * (attention + feed_forward),
        "attention": attention + layers * feed_forward,
        "all": attention + feed_forward,
    }
    for kind, count in expected.items():
        config = dataclasses.replace(whole, shared_layers=kind)
        shapes = jax.eval_shape(lambda config=config: init_mlm(config, jax.random.key(0)))
        assert tree.count(shapes["encoder"]["layers"]) == count, kind


@pytest.mark.slow
@both
def test_shapes_and_first_values(config: ModelConfig) -> None:
    wide = {"hidden_size": 128, "max_positions": 64, "vocab_size": 500}
    config, plain = (dataclasses.replace(each, **wide) for each in (config, UNSHARED))
    init = jax.jit(init_mlm, static_argnums=0)
    found, each = (tree.flatten(init(model, jax.random.key(0))) for model in (config, plain))
    assert list(found) == list(each), "the same paths in the same order"
    for path, x in found.items():
        layers = (1,) if is_shared(config, path) else each[path].shape[:1]
        assert x.shape == layers + each[path].shape[1:], path
        assert float(x.mean()) == pytest.approx(float(each[path].mean()), abs=1e-3), path
        assert float(x.std()) == pytest.approx(float(each[path].std()), rel=0.05), path
    expand = found["encoder/layers/feed_forward/expand/kernel"]
    assert len({layer.tobytes() for layer in np.asarray(expand)}) == len(expand), "layers are drawn apart"


@pytest.mark.slow
@both
def test_parameters_of_each_layer_are_refused(config: ModelConfig) -> None:
    """Not read as if the first layer's were everybody's."""
    with pytest.raises(flax.errors.ScopeParamShapeError):
        apply_mlm(config, drawn(UNSHARED), TOKENS, POSITIONS)


@pytest.mark.slow
@pytest.mark.parametrize("config", [UNSHARED, ALL, ATTENTION], ids=lambda config: config.shared_layers)
def test_dropout_differs_by_layer(config: ModelConfig) -> None:
    """Each of 3 layers adds drop(1), which is 0 or 2: their sum is 2 x Binomial(3, 1/2) if the masks are
    independent, and only 0 or 6 if they are equal."""
    config = dataclasses.replace(config, dropout=0.5)
    params = jax.tree.map(jnp.zeros_like, drawn(config)["encoder"])
    bias = params["layers"]["feed_forward"]["contract"]["bias"]
    x, visible = jnp.zeros((8, 16, 32)), jnp.ones((8, 1, 16), bool)

    def stack(module: Encoder) -> jax.Array:
        return module.layers(x, visible, True)[0]

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def added(bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        params["layers"]["feed_forward"]["contract"]["bias"] = bias
        key = {"dropout": jax.random.key(5)}
        found = Encoder(config).apply({"params": params}, method=stack, rngs=key)
        return found.sum(), found

    (_, found), gradient = added(jnp.ones_like(bias))
    values, counts = np.unique(np.asarray(found), return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 4, 6])
    np.testing.assert_allclose(counts / found.size, [1 / 8, 3 / 8, 3 / 8, 1 / 8], atol=0.04)
    # linear in the bias: the backward pass computes the masks again and must find the same
    np.testing.assert_allclose(gradient.sum(axis=0), found.sum(axis=(0, 1)), rtol=1e-6)


@pytest.mark.slow
@both
def test_compilation_does_not_grow_with_depth_and_nothing_is_copied(config: ModelConfig) -> None:
    def program(layers: int) -> str:
        deep = dataclasses.replace(config, num_layers=layers)
        shapes = jax.eval_shape(lambda: init_mlm(deep, jax.random.key(0)))
        gradient = jax.grad(lambda params: apply_mlm(deep, params, TOKENS, POSITIONS).sum())
        return jax.jit(gradient).lower(shapes).as_text()

    few, many = program(5), program(11)
    assert few.count("\n") == many.count("\n")
    assert "1x32x32xf32" in many
    assert "11x32x32xf32" not in many, "neither the shared weights nor their gradient is there for each layer"
    assert ("11x32x128xf32" in many) == (config.shared_layers == "attention")


@pytest.mark.slow
@both
def test_shared_tensors_are_compressed_once(config: ModelConfig) -> None:
    params = drawn(config)
    tensors = split(params)
    layers = {
        path: 1 if is_shared(config, path) else 3 for path in tree.flatten(params) if "/layers/" in path
    }
    named = {
        path.replace("/layers/", f"/layers/{i}/", 1) for path, count in layers.items() for i in range(count)
    }
    assert {name for name in tensors if "/layers/" in name} == named
    joined = join(compress(tensors, (Quantize(QuantSpec(8)),)).dense())
    assert jax.tree.map(jnp.shape, joined) == jax.tree.map(jnp.shape, params)
    small, whole = (apply(config, each, TOKENS, POSITIONS) for each in (joined, params))
    assert 0 < float(jnp.abs(small - whole).max()) < 0.2


@pytest.mark.slow
def test_a_run_learns_and_resumes(command, tmp_path: Path) -> None:
    arguments = ("--model.shared-layers", "all")
    train.main(command(tmp_path / "w", *arguments))
    losses = [line["eval/held_out/loss"] for line in lines(tmp_path / "w") if "eval/held_out/loss" in line]
    assert losses[-1] < losses[0] < np.log(300) + 0.2
    assert parameters(tmp_path / "w")["encoder/layers/attention/query/kernel"].shape == (1, 32, 32)
    shutil.copytree(tmp_path / "w", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoints" / "12")
    train.main(command(tmp_path / "resumed", *arguments))
    assert_equal_runs(tmp_path / "w", tmp_path / "resumed")
