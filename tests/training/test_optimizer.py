"""AdamW against a float64 reference, what decays, and rates of layers against optax's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlc_jax.config import (
    Config,
    EncoderDecoderConfig,
    ModelConfig,
    OptimizerConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import split
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


def test_lower_layers_learn_more_slowly() -> None:
    """Against optax's Adam with a learning rate for the tensors of each layer and part."""
    model = ModelConfig(num_layers=3, hidden_size=8, head_size=4, vocab_size=20, max_positions=8)
    params = jax.tree.map(lambda x: 0.1 + jnp.zeros(x.shape), jax.eval_shape(init_of(model), 0))
    config = OptimizerConfig(weight_decay=0.1, layer_decay=0.5, epsilon_form="optax")
    rates = {"0": 0.01 / 8, "1": 0.01 / 4, "2": 0.01 / 2, "embeddings": 0.01 / 16, "head": 0.01}
    adams: dict[Any, Any] = {
        part: optax.adamw(rate, config.beta1, config.beta2, config.epsilon, weight_decay=0.1)
        for part, rate in rates.items()
    }
    theirs = optax.multi_transform(adams, lambda tensors: {name: part_of(name) for name in tensors})
    ours = make_optimizer(config, params)
    rng = np.random.default_rng(0)
    expected: Any = split(params)
    state, moments = ours.init(params), theirs.init(expected)
    for _ in range(2):
        gradients = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
        directions, state = jax.jit(ours.update)(gradients, state, params)
        params = jax.tree.map(lambda x, d: x - 0.01 * d, params, directions)
        updates, moments = jax.jit(theirs.update)(split(gradients), moments, expected)
        expected = optax.apply_updates(expected, updates)
    assert {part_of(name) for name in expected} == {*rates}
    for name, x in split(params).items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


def init_of(model: ModelConfig) -> Callable[[int], dict[str, Any]]:
    return lambda seed: init_mlm(model, jax.random.key(seed))


def part_of(name: str) -> str:
    layer = re.match(r"encoder/layers/(\d)/", name)
    embedded = re.match(r"encoder/(token|position)_embedding|encoder/embedding_norm", name)
    return layer[1] if layer else "embeddings" if embedded else "head"


def test_without_layer_decay_the_optimizer_has_the_same_program() -> None:
    params = {"encoder": {"token_embedding": jnp.ones((2, 3)), "layers": {"kernel": jnp.ones((2, 3))}}}
    programs = []
    for config in (OptimizerConfig(), OptimizerConfig(layer_decay=1.0), OptimizerConfig(layer_decay=0.9)):
        optimizer = make_optimizer(config, params)
        programs.append(str(jax.make_jaxpr(optimizer.update)(params, optimizer.init(params), params)))
    assert programs[0] == programs[1] != programs[2]


def test_layer_decay_is_for_encoders() -> None:
    with pytest.raises(ValueError, match=r"optimizer.layer_decay is for encoders, not for a Translation"):
        Config(
            model=EncoderDecoderConfig(),
            data=PairsConfig(),
            task=TranslationConfig(),
            optimizer=OptimizerConfig(layer_decay=0.9),
        )
    with pytest.raises(ValueError, match=r"optimizer.layer_decay must be above 0 and at most 1, not 1.1"):
        OptimizerConfig(layer_decay=1.1)


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
