"""AdamW against a float64 reference, and what decays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.config import ModelConfig, OptimizerConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder import init_mlm
from tlc_jax.training.optimizer import DECAY_RULES, make_optimizer


def test_adamw_equals_float64_reference() -> None:
    config = OptimizerConfig(weight_decay=0.1)
    rng = np.random.default_rng(0)
    p = rng.normal(size=(3, 4))
    params = {"a": {"kernel": jnp.asarray(p, jnp.float32)}}
    optimizer = make_optimizer(config, params)
    state = optimizer.init(params)
    m = v = np.zeros_like(p)
    for t in range(1, 6):
        g, rate = rng.normal(size=p.shape) * 1e-3, 0.01 * t
        directions, state = optimizer.update({"a": {"kernel": jnp.asarray(g, jnp.float32)}}, state, params)
        params = jax.tree.map(lambda x, d, rate=rate: x - rate * d, params, directions)
        m = config.beta1 * m + (1 - config.beta1) * g
        v = config.beta2 * v + (1 - config.beta2) * g * g
        m_hat, v_hat = m / (1 - config.beta1**t), v / (1 - config.beta2**t)
        p = p - rate * 0.1 * p - rate * m_hat / (np.sqrt(v_hat) + config.epsilon)
    np.testing.assert_allclose(params["a"]["kernel"], p, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("decayed", ["all", "matrices"])
def test_what_decays(decayed: str) -> None:
    """With zero gradients only decay moves a parameter."""
    model = ModelConfig(num_layers=2, hidden_size=16, head_size=8, vocab_size=50, max_positions=8)
    params = jax.tree.map(jnp.ones_like, init_mlm(model, jax.random.key(0)))
    optimizer = make_optimizer(OptimizerConfig(decayed=decayed, weight_decay=0.5), params)  # type: ignore[arg-type]
    zeros = jax.tree.map(jnp.zeros_like, params)
    directions, _ = optimizer.update(zeros, optimizer.init(params), params)
    for path, direction in tree.flatten(directions).items():
        is_vector = path.rsplit("/", 1)[-1] in ("bias", "scale")
        assert (np.asarray(direction) == (0.0 if decayed == "matrices" and is_vector else 0.5)).all(), path


def test_rules_must_match_both_ways() -> None:
    params = {"encoder": {"kernel": jnp.ones(2), "strange": jnp.ones(2)}}
    with pytest.raises(UserError, match="no rule matches the parameters encoder/strange"):
        tree.match_rules([(r".*/kernel", True)], params)
    with pytest.raises(UserError, match="rules .*/bias match no parameter"):
        tree.match_rules([(r".*/kernel", True), (r".*/strange", True), (r".*/bias", False)], params)
    found = tree.match_rules([(r".*/kernel", 1), (r".*", 2)], params)
    assert found == {"encoder": {"kernel": 1, "strange": 2}}
    assert all(any(value for _, value in rules) for rules in DECAY_RULES.values())
