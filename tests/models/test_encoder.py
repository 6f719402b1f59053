"""The encoder's shapes, initial values and invariances."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.config import ModelConfig
from tlc_jax.core import tree
from tlc_jax.models.encoder import Block, Encoder, apply_mlm, init_mlm
from tlc_jax.models.layers import add_bias, gelu, matmul
from tlc_jax.tasks.base import prediction_loss

SMALL = ModelConfig(num_layers=3, hidden_size=32, head_size=8, vocab_size=60, max_positions=16)

apply = jax.jit(apply_mlm, static_argnums=0)  # op by op it takes ten times as long
init = jax.jit(init_mlm, static_argnums=0)

# fairseq's count: vocabulary 50265, 128 positions, normalised embedding and output, tied head
COUNTS = {
    (3, 768): 60_612_441,
    (6, 768): 81_876_057,
    (12, 768): 124_403_289,
    (18, 768): 166_930_521,
    (24, 768): 209_457_753,
    (12, 256): 22_495_833,
    (12, 512): 63_946_841,
    (12, 1024): 203_865_177,
    (12, 1536): 419_805_273,
}


@pytest.mark.parametrize(("size", "count"), COUNTS.items(), ids=lambda value: str(value))
def test_parameter_counts_of_the_paper(size: tuple[int, int], count: int) -> None:
    config = ModelConfig(num_layers=size[0], hidden_size=size[1])
    shapes = jax.eval_shape(lambda key: init_mlm(config, key), jax.random.key(0))
    assert tree.count(shapes) == count
    flat = tree.flatten(shapes)
    assert flat["encoder/token_embedding"].shape == (50265, size[1]), "odd, and never padded"
    assert all(leaf.dtype == jnp.float32 for leaf in flat.values())


@pytest.mark.slow
def test_initial_values_are_fairseqs() -> None:
    config = ModelConfig(num_layers=4, hidden_size=128, vocab_size=3000, max_positions=64)
    for path, value in tree.flatten(init(config, jax.random.key(0))).items():
        x = np.asarray(value, np.float64)
        last = path.rsplit("/", 1)[-1]
        if last == "bias":
            assert not x.any(), path
        elif last == "scale":
            assert (x == 1).all(), path
        else:
            drawn = np.delete(x, 1, axis=0) if last.endswith("embedding") else x
            assert abs(drawn.std() - 0.02) < 0.02 * 4 / math.sqrt(2 * drawn.size), path
            assert abs(drawn.mean()) < 0.02 * 5 / math.sqrt(drawn.size), path
            if last.endswith("embedding"):
                assert not x[1].any(), f"{path}: the row of <pad> is zero"
            else:
                assert not np.array_equal(x[0], x[1]), f"{path}: layers are drawn apart"


def test_narrow_models_may_start_wider() -> None:
    assert ModelConfig(hidden_size=64).stddev == 0.02
    assert ModelConfig(hidden_size=192, initializer_scaling="width").stddev == pytest.approx(0.04)
    assert ModelConfig(initializer_scaling="width").stddev == 0.02


@pytest.mark.slow
def test_scan_equals_a_loop_over_layers() -> None:
    params = init(SMALL, jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (2, 7, 32))
    visible = jnp.ones((2, 1, 7), bool)
    loop, block = x, jax.jit(lambda layer, x: Block(SMALL).apply({"params": layer}, x, visible, False))
    for i in range(SMALL.num_layers):
        layer = jax.tree.map(lambda w, i=i: w[i], params["encoder"]["layers"])
        loop, _ = block(layer, loop)

    def stack(module: Encoder) -> jax.Array:
        return module.layers(x, visible, False)[0]

    scanned = jax.jit(lambda p: Encoder(SMALL).apply({"params": p}, method=stack))(params["encoder"])
    np.testing.assert_allclose(scanned, loop, atol=1e-6)


@pytest.mark.slow
def test_pads_change_nothing() -> None:
    params = init(SMALL, jax.random.key(1))
    tokens = jax.random.randint(jax.random.key(2), (2, 9), 4, 60)
    padded = jnp.concatenate([tokens, jnp.ones((2, 5), jnp.int32)], axis=1)
    positions = jnp.array([[0, 4, 8], [2, 3, 7]])
    np.testing.assert_allclose(
        apply(SMALL, params, tokens, positions), apply(SMALL, params, padded, positions), atol=1e-5
    )


@pytest.mark.slow
def test_every_position_attends_to_every_other() -> None:
    params = init(SMALL, jax.random.key(1))
    tokens = jax.random.randint(jax.random.key(2), (1, 8), 4, 50)
    everywhere = jnp.arange(8)[None]
    before = apply(SMALL, params, tokens, everywhere)
    after = apply(SMALL, params, tokens.at[0, 3].set(55), everywhere)
    assert (jnp.abs(before - after).max(axis=-1) > 0).all()


@pytest.mark.parametrize("window", [0, 1, 2, 7])
def test_a_token_sees_as_far_as_its_layers_reach(window: int) -> None:
    """Through each layer a change travels `window` positions; at 7 of 8 that is the plain encoder."""
    params = init(SMALL, jax.random.key(1))
    tokens = jax.random.randint(jax.random.key(2), (1, 8), 4, 50)
    everywhere = jnp.arange(8)[None]
    before = apply(SMALL, params, tokens, everywhere, window=jnp.array(window))
    after = apply(SMALL, params, tokens.at[0, 0].set(55), everywhere, window=jnp.array(window))
    changed = np.asarray(jnp.abs(before - after).max(axis=-1)[0] > 0)
    np.testing.assert_array_equal(changed, np.arange(8) <= window * SMALL.num_layers)
    plain = apply(SMALL, params, tokens, everywhere)
    assert np.allclose(before, plain, atol=1e-6) == (window == 7)


@pytest.mark.slow
def test_only_the_gathered_positions_are_computed() -> None:
    params = init(SMALL, jax.random.key(1))
    tokens = jax.random.randint(jax.random.key(2), (2, 8), 4, 60)
    everywhere = jnp.broadcast_to(jnp.arange(8), (2, 8))
    positions = jnp.array([[1, 5], [0, 7]])
    whole = apply(SMALL, params, tokens, everywhere)
    part = apply(SMALL, params, tokens, positions)
    np.testing.assert_allclose(part, jnp.take_along_axis(whole, positions[:, :, None], axis=1), atol=1e-6)


@pytest.mark.slow
def test_dropout_acts_in_training_only_and_by_its_key() -> None:
    params = init(SMALL, jax.random.key(1))
    tokens = jax.random.randint(jax.random.key(2), (2, 8), 4, 60)
    positions = jnp.zeros((2, 1), jnp.int32)

    def run(key: int | None) -> jax.Array:
        dropout_key = None if key is None else jax.random.key(key)
        return apply(SMALL, params, tokens, positions, dropout_key=dropout_key)

    np.testing.assert_array_equal(run(None), run(None))
    np.testing.assert_array_equal(run(1), run(1))
    assert not np.allclose(run(1), run(2))
    assert not np.allclose(run(1), run(None))


@pytest.mark.slow
def test_bfloat16_computes_and_float32_stays() -> None:
    config = ModelConfig(**{**vars(SMALL), "compute_dtype": "bfloat16"})
    params = init(config, jax.random.key(1))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    tokens = jax.random.randint(jax.random.key(2), (2, 8), 4, 60)
    positions = jnp.zeros((2, 1), jnp.int32)
    low = apply(config, params, tokens, positions)
    high = apply(SMALL, params, tokens, positions)
    assert low.dtype == jnp.float32
    difference = jnp.abs(low - high).max()
    assert 0 < difference < 0.05


def test_gelu_is_exact() -> None:
    x = np.linspace(-5, 5, 101)
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(gelu(jnp.asarray(x, jnp.float32)), exact, atol=1e-6)
    assert np.abs(jax.nn.gelu(jnp.asarray(x, jnp.float32)) - np.array(exact)).max() > 1e-4, (
        "the test has teeth"
    )


@pytest.mark.parametrize("widths", [(5, 9), (9, 5)])
def test_matmul_has_the_gradient_that_jax_derives(widths: tuple[int, int]) -> None:
    x = jax.random.normal(jax.random.key(0), (2, 3, widths[0]))
    kernel = jax.random.normal(jax.random.key(1), widths)

    def loss(product, x, kernel):
        return jnp.sum(jnp.sin(product(x, kernel)))

    ours = jax.grad(loss, (1, 2))(matmul, x, kernel)
    derived = jax.grad(loss, (1, 2))(jnp.matmul, x, kernel)
    for one, other in zip(ours, derived, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_bias_has_the_gradient_that_jax_derives() -> None:
    keys = jax.random.split(jax.random.key(5), 3)
    shapes = [(3, 5, 7), (7,), (3, 5, 7)]
    x, bias, weights = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))

    def loss(add, x: jax.Array, bias: jax.Array) -> jax.Array:
        return jnp.sum(weights * jnp.sin(add(x, bias)))

    ours = jax.grad(loss, (1, 2))(add_bias, x, bias)
    derived = jax.grad(loss, (1, 2))(lambda x, bias: x + bias[None, None], x, bias)
    for found, expected in zip(ours, derived, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_prediction_is_right_where_its_logit_is_the_largest() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 5, 40)
    weights = rng.integers(0, 2, 40).astype(np.float32)
    _, sums = prediction_loss(jnp.asarray(logits), {"targets": jnp.asarray(targets), "weights": weights})
    assert float(sums["correct"]) == (weights * (logits.argmax(axis=1) == targets)).sum() > 0
