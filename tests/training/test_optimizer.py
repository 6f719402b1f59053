"""AdamW against a float64 reference, and what decays."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.config import ModelConfig, OptimizerConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder import init_mlm
from tlc_jax.training.optimizer import DECAY_RULES, make_optimizer

FORMS: tuple[Literal["fairseq", "optax"], ...] = ("fairseq", "optax")


@pytest.mark.parametrize("form", FORMS)
def test_adamw_equals_float64_reference(form: Literal["fairseq", "optax"]) -> None:
    config = OptimizerConfig(weight_decay=0.1, epsilon_form=form)
    rng = np.random.default_rng(0)
    p = rng.normal(size=(3, 4))
    params = {"a": {"kernel": jnp.asarray(p, jnp.float32)}}
    optimizer = make_optimizer(config, params)
    state = optimizer.init(params)
    m = v = np.zeros_like(p)
    for t in range(1, 6):
        g, rate = rng.normal(size=p.shape) * 1e-5, 0.01 * t
        directions, state = optimizer.update({"a": {"kernel": jnp.asarray(g, jnp.float32)}}, state, params)
        params = jax.tree.map(lambda x, d, rate=rate: x - rate * d, params, directions)
        m = config.beta1 * m + (1 - config.beta1) * g
        v = config.beta2 * v + (1 - config.beta2) * g * g
        root = np.sqrt(1 - config.beta2**t)
        if form == "fairseq":  # adam.py: step_size * exp_avg / (exp_avg_sq.sqrt() + eps)
            adam = root / (1 - config.beta1**t) * m / (np.sqrt(v) + config.epsilon)
        else:
            adam = m / (1 - config.beta1**t) / (np.sqrt(v) / root + config.epsilon)
        p = p - rate * 0.1 * p - rate * adam
    np.testing.assert_allclose(params["a"]["kernel"], p, rtol=2e-5)


def directions_of(form: Literal["fairseq", "optax"], gradients: np.ndarray, steps: int) -> list[np.ndarray]:
    """Those of successive updates with the same gradients, without decay."""
    params = {"a": {"kernel": jnp.zeros(gradients.shape)}}
    optimizer = make_optimizer(OptimizerConfig(weight_decay=0.0, epsilon_form=form), params)
    state, taken, update = optimizer.init(params), [], jax.jit(optimizer.update)
    for _ in range(steps):
        directions, state = update({"a": {"kernel": jnp.asarray(gradients, jnp.float32)}}, state, params)
        taken.append(np.asarray(directions["a"]["kernel"]))
    return taken


def test_the_first_update_is_as_small_as_fairseqs() -> None:
    """g / (g + 1e-6 / sqrt(1 - 0.98)), where optax has g / (g + 1e-6); later they are the same."""
    gradients = np.array([1e-3, 1e-5, 1e-6])
    ours, theirs = (directions_of(form, gradients, 220) for form in FORMS)
    np.testing.assert_allclose(ours[0], [0.993, 0.586, 0.124], atol=5e-4)
    np.testing.assert_allclose(theirs[0], [0.999, 0.909, 0.5], atol=5e-4)
    np.testing.assert_allclose(ours[-1], theirs[-1], rtol=0.01)
    assert ours[50][2] < 0.95 * theirs[50][2], "not yet"


def test_both_forms_have_one_state() -> None:
    """So that checkpoints are read whatever the form."""
    params = {"a": {"kernel": jnp.ones((2, 3))}}
    one, other = (make_optimizer(OptimizerConfig(epsilon_form=form), params).init(params) for form in FORMS)
    assert jax.tree.structure(one) == jax.tree.structure(other)


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
