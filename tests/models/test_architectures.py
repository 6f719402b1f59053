"""The encoder as BERT, RoBERTa and DistilBERT: what follows from `model.architecture`, for every part that
knows a model."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.compression.structured import keep_units
from tlc_jax.config import ModelConfig
from tlc_jax.core.stacked import tensor_names
from tlc_jax.core.tree import flatten, match_rules
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.encoder import Block, apply_mlm, encode, init_mlm
from tlc_jax.models.families import ENCODER

SIZE: dict[str, Any] = {
    "num_layers": 2,
    "hidden_size": 16,
    "head_size": 4,
    "feed_forward_size": 12,
    "vocab_size": 30,
    "max_positions": 10,
    "dropout": 0.5,
    "attention_dropout": 0.0,
}
BERT: dict[str, Any] = {"architecture": "bert", "pad_id": 3, "position_offset": 0, "norm_epsilon": 1e-12}
CONFIGS = {
    "bert": ModelConfig(**SIZE, **BERT, token_types=2),
    "distilbert": ModelConfig(**SIZE, **{**BERT, "architecture": "distilbert"}),
    "roberta": ModelConfig(**SIZE, architecture="roberta", tied_output=False),
    "xlm-roberta": ModelConfig(**SIZE, architecture="xlm-roberta", pad_id=4, position_offset=5),
    "roberta-prelayernorm": ModelConfig(**SIZE, token_types=2),
}
architectures = pytest.mark.parametrize("name", CONFIGS)
CLASSES = 3


def shapes(config: ModelConfig) -> dict[str, Any]:
    """Those of the model with all of its heads."""
    init = [ENCODER.init, lambda config, key: init_classifier(config, CLASSES, key)]
    parts: dict[str, Any] = {}
    for each in init:
        parts |= jax.eval_shape(functools.partial(each, config), jax.random.key(0))
    return parts


def drawn(config: ModelConfig) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes(config))


def tokens(pad: int, length: int = 7) -> jax.Array:
    """[2, length], without pads."""
    return jnp.asarray(np.random.default_rng(1).integers(pad + 1, 30, (2, length)), jnp.int32)


@architectures
def test_each_parameter_has_one_sharding_rule_and_one_name(name: str) -> None:
    params = shapes(CONFIGS[name])
    for path, x in flatten(params).items():
        rules = [spec for pattern, spec in ENCODER.sharding_rules if re.fullmatch(pattern, path)]
        assert len(rules) == 1, path
        assert len(rules[0]) <= x.ndim, path
    for head in ("mlm_head", "classification_head"):  # a rule without a parameter would be an error
        match_rules(ENCODER.sharding_rules, {part: params[part] for part in ("encoder", head)})
    names = ENCODER.huggingface_names(CONFIGS[name])
    tensors = [tensor for path, x in flatten(params).items() for tensor in tensor_names(path, x)]
    assert sorted(tensors) == sorted(names)
    assert len(set(names.values())) == len(names)


@pytest.mark.slow
@architectures
def test_initial_rows_of_pads_are_zero(name: str) -> None:
    """In the table of positions only where they are counted from the pad on."""
    config = CONFIGS[name]
    encoder = jax.jit(init_mlm, static_argnums=0)(config, jax.random.key(0))["encoder"]
    zero = {path: np.flatnonzero(~np.asarray(encoder[path]).any(axis=1)) for path in encoder if "_em" in path}
    assert zero.pop("token_embedding").tolist() == [config.pad_id]
    assert zero.pop("position_embedding").tolist() == [config.pad_id] * (config.position_offset > 0)
    assert all(rows.size == 0 for path, rows in zero.items() if path != "embedding_norm")


def test_distilbert_drops_nothing_of_what_attention_adds() -> None:
    """With a feed-forward layer that adds nothing, all that dropout can change is attention's output."""
    x = jax.random.normal(jax.random.key(0), (2, 5, 16))
    changed = {}
    for name in ("bert", "distilbert"):
        layer = jax.tree.map(lambda w: w[0], drawn(CONFIGS[name])["encoder"]["layers"])
        layer["feed_forward"]["contract"] = jax.tree.map(jnp.zeros_like, layer["feed_forward"]["contract"])

        def change(layer: Any, block: Block) -> jax.Array:
            visible, keys = jnp.ones((2, 1, 5), bool), {"dropout": jax.random.key(1)}
            dropped, whole = (
                block.apply({"params": layer}, x, visible, train, rngs=keys)[0] for train in (True, False)
            )
            return jnp.abs(dropped - whole).max()

        changed[name] = bool(jax.jit(change, static_argnums=1)(layer, Block(CONFIGS[name])) > 1e-3)
    assert changed == {"bert": True, "distilbert": False}


@pytest.mark.slow
@architectures
def test_pads_and_token_types_change_what_they_should(name: str) -> None:
    config, params = CONFIGS[name], drawn(CONFIGS[name])
    ids = tokens(config.pad_id)
    padded = jnp.pad(ids, ((0, 0), (0, 3)), constant_values=config.pad_id)
    hidden = jax.jit(functools.partial(encode, config))
    plain = hidden(params, ids)
    np.testing.assert_allclose(hidden(params, padded)[:, :7], plain, rtol=0, atol=1e-5)
    types = jnp.asarray([[0, 0, 0, 1, 1, 1, 1]] * 2, jnp.int32)
    np.testing.assert_allclose(hidden(params, ids, jnp.zeros_like(ids)), plain, rtol=0, atol=1e-5)
    assert bool(jnp.abs(hidden(params, ids, types) - plain).max() > 0.01) == (config.token_types > 0)
    assert jnp.abs(hidden(params, ids[:, ::-1])[:, ::-1] - plain).max() > 0.01, "positions matter"


@pytest.mark.slow
@architectures
def test_a_shrunk_encoder_computes_what_the_masked_one_does(name: str) -> None:
    config, params = CONFIGS[name], drawn(CONFIGS[name])
    kinds, rng = ENCODER.prunable_units(config), np.random.default_rng(3)
    kept = [
        (
            kind,
            np.stack([np.sort(rng.permutation(kind.count)[: kind.count // 2]) for _ in range(kind.layers)]),
        )
        for kind in kinds
    ]
    shrunk, smaller = keep_units(params, config, kept)
    masked = jax.tree.map(lambda x: x, params)
    for kind, units in kept:
        *outer, last = kind.reader.split("/")
        node = functools.reduce(dict.__getitem__, outer, masked)
        mask = np.zeros(node[last].shape[:2], bool)
        rows = units[:, :, None] * kind.size + np.arange(kind.size)
        np.put_along_axis(mask, rows.reshape(kind.layers, -1), True, axis=1)
        node[last] = jnp.where(mask[:, :, None], node[last], 0.0)
    ids = tokens(config.pad_id)
    assert isinstance(smaller, ModelConfig)
    ours = encode(smaller, shrunk, ids)
    np.testing.assert_allclose(ours, encode(config, masked, ids), rtol=0, atol=1e-4)
    assert jnp.abs(ours - encode(config, params, ids)).max() > 0.1, "the test has teeth"


@pytest.mark.slow
@architectures
def test_losses_have_gradients_everywhere(name: str) -> None:
    """Without dropout: then only what no token uses has none."""
    config, params = CONFIGS[name], drawn(CONFIGS[name])
    ids, types = tokens(config.pad_id), jnp.asarray([[0, 0, 0, 1, 1, 1, 1]] * 2, jnp.int32)

    def loss(params: Any) -> jax.Array:
        masked = apply_mlm(config, params, ids, jnp.asarray([[0, 3], [1, 6]]), token_types=types)
        classified = apply_classifier(config, params, ids, classes=CLASSES, token_types=types)
        return jnp.square(jax.nn.softmax(masked)).sum() + jnp.square(jax.nn.softmax(classified)).sum()

    for path, x in flatten(jax.jit(jax.grad(loss))(params)).items():
        assert jnp.isfinite(x).all(), path
        assert path.endswith("key/bias") or x.any(), f"{path}: not a part of either loss"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"architecture": "bert"},
            "model.position_offset is 2, but it is 0 in bert: set --model.position-off",
        ),
        ({"pad_id": 0}, "model.position_offset is 2, but it is 1 in roberta-prelayernorm: set"),
        (
            {**BERT, "architecture": "distilbert", "token_types": 2},
            "model.token_types is 2, but it is 0 in dis",
        ),
        (
            {**BERT, "architecture": "distilbert", "norm_epsilon": 1e-5},
            "model.norm_epsilon is 1e-05, but it i",
        ),
        ({"pad_id": 30}, "model.pad_id must be an id of the vocabulary, not 30"),
        ({"token_types": -1}, "model.token_types must be at least 0, not -1"),
        ({"norm_epsilon": 0.0}, "model.norm_epsilon must be in .0, 1., not 0.0"),
    ],
)
def test_what_no_architecture_has_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**SIZE, **fields})
