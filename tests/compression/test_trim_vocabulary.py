"""Models of some of their tokens: what they compute of these is what the whole model computed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compression.test_keep_layers import SMALL, whole
from tlc_jax.compression.methods import TrimVocabulary
from tlc_jax.compression.pipeline import shrink
from tlc_jax.compression.steps import Model
from tlc_jax.config import EncoderDecoderConfig, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.families import family_of

BERT = ModelConfig(**SMALL, max_positions=8, architecture="bert", pad_id=0, position_offset=0, token_types=2)
CONFIGS = {
    "pre-norm": ModelConfig(**SMALL, max_positions=8),
    "pad in the middle": ModelConfig(**SMALL, max_positions=8, pad_id=6, position_offset=7),
    "bert, own output": dataclasses.replace(BERT, tied_output=False),
    "encoder-decoder": EncoderDecoderConfig(**SMALL),
}
KEPT = np.array([0, 1, 2, 3, 6, 7, 11, 12, 15, 19])


def of_tokens(config: Any, params: Any, masks: Any = None) -> Model:
    family = family_of(config)
    units = family.prunable_units(config)
    return shrink(Model(params, config, units, masks or {}, KEPT, family.keep_tokens), (TrimVocabulary(),))


def rows(config: Any, seed: int, shape: tuple[int, int] = (3, 6)) -> Any:
    """Rows of kept tokens, with pads at the end of the last."""
    ids = np.random.default_rng(seed).choice(KEPT[4:], shape).astype(np.int32)
    ids[ids == getattr(config, "pad_id", 0)] = KEPT[-1]
    ids[-1, 4:] = getattr(config, "pad_id", 0)
    return jnp.asarray(ids)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_kept_tokens_are_the_same(name: str) -> None:
    """Parameters are the same bits, and so is all that is computed of them but the product of the vocabulary
    head: with fewer columns, a CPU may add in another order."""
    config = CONFIGS[name]
    params, family = whole(config).params, family_of(config)
    smaller = of_tokens(config, params)
    first, second = rows(config, 0), rows(config, 1)
    new = jnp.asarray(np.searchsorted(KEPT, np.arange(20)).clip(max=len(KEPT) - 1))
    apply = jax.jit(family.apply, static_argnums=0)
    second = jnp.broadcast_to(jnp.arange(6), (3, 6)) if isinstance(config, ModelConfig) else second
    new_second = second if isinstance(config, ModelConfig) else new[second]  # positions are no tokens
    expected = apply(config, params, first, second)[..., KEPT]
    actual = apply(smaller.config, smaller.params, new[first], new_second)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-7)  # they are about 1
    jax.tree.map(assert_kept, smaller.params, params)
    assert smaller.config.vocab_size == len(KEPT)
    shapes = jax.eval_shape(lambda key: family.init(smaller.config, key), jax.random.key(0))
    assert jax.tree.map(jnp.shape, smaller.params) == jax.tree.map(jnp.shape, shapes)
    assert smaller.units == family.prunable_units(smaller.config)


def assert_kept(smaller: Any, whole: Any) -> None:
    """That a parameter is as it was, or has its rows or columns of the tokens that are kept; of positions the
    last, where there are fewer before the first since <pad> has another id."""
    for axis, (size, before) in enumerate(zip(smaller.shape, whole.shape, strict=True)):
        if size != before:
            kept = KEPT if before == 20 else np.arange(before - size, before)
            whole = np.take(np.asarray(whole), kept, axis)
    np.testing.assert_array_equal(smaller, whole)


def test_a_classification_of_kept_tokens_has_the_same_bits() -> None:
    shapes = jax.eval_shape(lambda key: init_classifier(BERT, 3, key), jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)
    smaller, ids = of_tokens(BERT, params), rows(BERT, 2)
    expected = apply_classifier(BERT, params, ids, classes=3, head_dropout=0.0)
    new = jnp.asarray(np.searchsorted(KEPT, ids), jnp.int32)
    actual = apply_classifier(smaller.config, smaller.params, new, classes=3, head_dropout=0.0)
    np.testing.assert_array_equal(actual, expected)


def test_what_is_pruned_stays_pruned() -> None:
    config = CONFIGS["pre-norm"]
    masks = {
        "encoder/token_embedding": np.random.default_rng(0).random((20, 8)) > 0.5,
        "encoder/layers/0/attention/query/kernel": np.zeros((8, 8), bool),
    }
    smaller = of_tokens(config, whole(config).params, masks)
    np.testing.assert_array_equal(
        smaller.masks["encoder/token_embedding"], masks["encoder/token_embedding"][KEPT]
    )
    assert smaller.masks["encoder/layers/0/attention/query/kernel"].shape == (8, 8)


def test_what_is_not_known_is_asked_for() -> None:
    with pytest.raises(UserError, match="TrimVocabulary needs the tokens of a corpus"):
        shrink(whole(BERT), (TrimVocabulary(),))
    model = dataclasses.replace(whole(BERT), tokens=KEPT)
    with pytest.raises(UserError, match="does not say which tables have a row for each token"):
        shrink(model, (TrimVocabulary(),))
