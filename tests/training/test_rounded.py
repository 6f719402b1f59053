"""Rounded weights in the forward pass: one update against numpy, and the same codes as the pipeline's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.builders import nested
from tests.training.linear_task import PATH, Linear, batch_of, params_of, slopes
from tlc_jax.compression.methods import ByRule, Quantize
from tlc_jax.compression.pipeline import compress
from tlc_jax.config import (
    BudgetConfig,
    CompressionAwareConfig,
    Config,
    MeshConfig,
    OptimizerConfig,
    QuantSpec,
    Rule,
)
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import flatten
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.training.masked import masked, parameter_masks
from tlc_jax.training.rounded import Rounding
from tlc_jax.training.state import init_state, pruned_state
from tlc_jax.training.step import make_train_step

EVERYTHING = "(?s).*"


def nearest(weights: np.ndarray, kept: np.ndarray, bits: int) -> np.ndarray:
    """Paper 4.2 with zero nudged, of one matrix: the range is that of the weights that are kept."""
    low, high = weights[kept].min(), weights[kept].max()
    if not kept.all():
        low, high = min(low, 0), max(high, 0)
    delta = (high - low) / (2**bits - 1)
    zero = np.rint(-low / delta)
    return kept * delta * (np.clip(np.rint(weights / delta) + zero, 0, 2**bits - 1) - zero)


def test_one_update_equals_numpy() -> None:
    """The gradient is taken at the rounded weights of each layer, and goes to those with all digits."""
    rng, rate, decay, epsilon = np.random.default_rng(0), 0.1, 0.2, 0.5
    optimizer = OptimizerConfig(weight_decay=decay, epsilon=epsilon, epsilon_form="optax")
    aware = CompressionAwareConfig((Rule(EVERYTHING, QuantSpec(2)),))
    config = Config(optimizer=optimizer, budget=BudgetConfig(steps=3), compression_aware=aware)
    mesh, task = make_mesh(MeshConfig(), jax.devices()[:1]), Linear()
    weights = rng.normal(size=(2, 5, 5)).astype(np.float32)
    kept = np.stack([np.ones((5, 5), bool), rng.random((5, 5)) < 0.6])
    masks = {"encoder/layers/1/x/kernel": kept[1]}
    batch = batch_of(1)
    begin, plain = init_state(task, config.optimizer, jax.random.key(0), mesh)
    state = pruned_state(begin, params_of(weights), masks)
    step = jax.jit(make_train_step(task, config, masked(plain), mesh))
    after, sums = step(state, batch, jax.random.key(1), {"learning_rate": np.float32(rate)})

    latent = (weights * kept).astype(float)
    loss, gradient = slopes(np.stack([nearest(latent[i], kept[i], 2) for i in range(2)]), batch)
    gradient *= kept
    expected = latent - rate * kept * (gradient / (np.abs(gradient) + epsilon) + decay * latent)
    assert float(sums["loss"]) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(flatten(after.params)[PATH], expected, atol=1e-5)
    assert np.abs(expected - latent)[kept].min() > 1e-4, "all that are kept move"


SPECS = {
    "tensor": QuantSpec(4),
    "row": QuantSpec(3, "row", "mse"),
    "float": QuantSpec(2, "group:8", "mse", "float"),
    "symmetric": QuantSpec(4, "row", zero="symmetric", range_dtype="bfloat16"),
}
SHAPES = {"query/kernel": (3, 8, 16), "key/kernel": (3, 8, 16), "norm/scale": (3, 16)}


@pytest.mark.parametrize("name", ["tensor", *(pytest.param(n, marks=pytest.mark.slow) for n in [*SPECS][1:])])
def test_training_sees_the_codes_that_the_pipeline_writes(name: str) -> None:
    """One layer has other bits by a rule, one is pruned, and positive vectors have no zero."""
    spec, rng = SPECS[name], np.random.default_rng(1)
    drawn = {f"encoder/layers/{path}": rng.normal(size=shape) for path, shape in SHAPES.items()}
    params = nested({path: np.abs(x).astype(np.float32) + 0.1 for path, x in drawn.items()})
    params = jax.tree.map(jnp.asarray, params)
    other = Rule("encoder/layers/1/query/kernel", QuantSpec(8))
    rounding = Rounding.of(CompressionAwareConfig((other, Rule(EVERYTHING, spec))), params)
    assert rounding is not None
    kept = rng.random((8, 16)) < 0.5
    masks = {"encoder/layers/0/key/kernel": kept}
    recipe = (ByRule((other,)), Quantize(spec))
    expected = compress(split(jax.device_get(params)), recipe, masks=masks).dense()
    written = split(rounding.written(params, masks))
    seen = split(jax.jit(rounding.seen)(params, parameter_masks(params, masks)))
    assert expected.keys() == written.keys() == seen.keys()
    for tensor, x in expected.items():
        np.testing.assert_array_equal(written[tensor], x, err_msg=tensor)
        np.testing.assert_allclose(seen[tensor], x, rtol=1e-6, atol=1e-7, err_msg=tensor)
    assert np.count_nonzero(written["encoder/layers/0/key/kernel"][~kept]) == 0


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="prune only with compression_aware.movement"):
        CompressionAwareConfig((Rule(".*kernel", QuantSpec(4), prune=True),))
    params = Linear().init(jax.random.key(0))
    with pytest.raises(UserError, match="match no parameter"):
        Rounding.of(CompressionAwareConfig((Rule("nothing", QuantSpec(4)),)), params)
    assert Rounding.of(CompressionAwareConfig((Rule(".*", QuantSpec(32)),)), params) is None
