"""What every model family promises, for all families in the list: a new one is tested by being listed, and by
an example in tests/models/families.py."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.families import EXAMPLES, PATHS, Example
from tlc_jax.compression.structured import keep_units
from tlc_jax.config import ModelConfig, TransformerConfig
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import flatten, map_with_path
from tlc_jax.models.classifier import init_classifier
from tlc_jax.models.families import ENCODER, FAMILIES, family_of
from tlc_jax.models.family import ModelFamily

families = pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])


def drawn(family: ModelFamily, config: TransformerConfig) -> dict[str, Any]:
    """Every parameter at random, large enough that each head and unit matters."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(functools.partial(family.init, config), jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes)


def apply(
    family: ModelFamily, config: TransformerConfig, params: dict[str, Any], inputs: tuple[jax.Array, ...]
) -> np.ndarray:
    return np.asarray(jax.jit(functools.partial(family.apply, config))(params, *inputs))


def test_each_family_is_listed_with_an_example() -> None:
    assert sorted(EXAMPLES) == sorted(PATHS) == sorted(family.name for family in FAMILIES)
    for family in FAMILIES:
        config = EXAMPLES[family.name].config
        assert type(config) is family.config_type
        assert family_of(config) is family


@pytest.mark.slow
@families
def test_initial_values_are_a_function_of_the_key(family: ModelFamily) -> None:
    config = EXAMPLES[family.name].config
    init = jax.jit(functools.partial(family.init, config))
    first, again, other = (flatten(init(jax.random.key(seed))) for seed in (0, 0, 1))
    for path, x in first.items():
        assert x.dtype == jnp.float32
        assert jnp.isfinite(x).all()
        np.testing.assert_array_equal(x, again[path], err_msg=path)
    assert any((x != other[path]).any() for path, x in first.items())


@families
def test_paths_are_public(family: ModelFamily) -> None:
    params = jax.eval_shape(functools.partial(family.init, EXAMPLES[family.name].config), jax.random.key(0))
    lines = [f"{path} {'x'.join(map(str, x.shape))}" for path, x in flatten(params).items()]
    assert sorted(lines) == sorted(PATHS[family.name])


@families
def test_each_parameter_has_one_sharding_rule(family: ModelFamily) -> None:
    config = EXAMPLES[family.name].config
    params = flatten(jax.eval_shape(functools.partial(family.init, config), jax.random.key(0)))
    if family is ENCODER:
        params |= flatten(jax.eval_shape(lambda key: init_classifier(config, 3, key), jax.random.key(0)))
    matched = set()
    for path, x in params.items():
        rules = [(pattern, spec) for pattern, spec in family.sharding_rules if re.fullmatch(pattern, path)]
        assert len(rules) == 1, (path, rules)
        ((pattern, spec),) = rules
        assert len(spec) <= x.ndim, path
        matched.add(pattern)
    assert matched == {pattern for pattern, _ in family.sharding_rules}


@pytest.mark.slow
@families
def test_names_of_hugging_face_are_a_bijection(family: ModelFamily) -> None:
    config = EXAMPLES[family.name].config
    names = family.huggingface_names(config)
    assert len({*names.values()}) == len(names)
    tensors = split(drawn(family, config)).keys()
    if family is ENCODER:  # the other head
        tensors |= split(jax.jit(functools.partial(init_classifier, config, 3))(jax.random.key(0))).keys()
    assert tensors == names.keys()


def random_units(family: ModelFamily, config: TransformerConfig) -> list[tuple[Any, np.ndarray]]:
    """In each layer another half of the units; empty where a family has none."""
    rng, kept = np.random.default_rng(3), []
    for kind in family.prunable_units(config):
        rows = [np.sort(rng.permutation(kind.count)[: kind.count // 2]) for _ in range(kind.layers)]
        kept.append((kind, np.stack(rows)))
    return kept


@pytest.mark.slow
@families
def test_a_shrunk_model_computes_what_the_masked_one_does(family: ModelFamily) -> None:
    example = EXAMPLES[family.name]
    params, kept = drawn(family, example.config), random_units(family, example.config)
    shrunk, smaller = keep_units(params, example.config, kept)
    assert all(getattr(smaller, kind.field) == units.shape[1] for kind, units in kept)
    shapes = jax.eval_shape(functools.partial(family.init, smaller), jax.random.key(0))
    assert jax.tree.map(jnp.shape, shrunk) == jax.tree.map(lambda x: x.shape, shapes)
    rows = {kind.reader: units[:, :, None] * kind.size + np.arange(kind.size) for kind, units in kept}

    def silence(path: str, x: jax.Array) -> jax.Array:
        if path not in rows:
            return x
        mask = np.zeros(x.shape[:2], bool)
        np.put_along_axis(mask, rows[path].reshape(len(mask), -1), True, axis=1)
        return jnp.where(mask[:, :, None], x, 0.0)

    expected = apply(family, example.config, map_with_path(silence, params), example.inputs)
    whole = apply(family, example.config, params, example.inputs)
    np.testing.assert_allclose(apply(family, smaller, shrunk, example.inputs), expected, rtol=0, atol=1e-4)
    assert not kept or np.abs(whole - expected).max() > 0.1, "the test has teeth"


@pytest.mark.slow
@families
def test_units_are_counted_as_the_config_does(family: ModelFamily) -> None:
    config = EXAMPLES[family.name].config
    params = flatten(jax.eval_shape(functools.partial(family.init, config), jax.random.key(0)))
    for kind in family.prunable_units(config):
        assert kind.count == getattr(config, kind.field)
        assert kind.reader in kind.axes
        for path, axis in kind.axes.items():
            assert params[path].shape[0] == kind.layers
            assert params[path].shape[axis] == kind.count * kind.size
    shared = dataclasses.replace(config, shared_layers="all") if type(config) is ModelConfig else config
    params = flatten(jax.eval_shape(functools.partial(family.init, shared), jax.random.key(0)))
    assert all(
        params[path].shape[0] == kind.layers for kind in family.prunable_units(shared) for path in kind.axes
    )


@pytest.mark.slow
@families
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_and_gradients_are_finite(family: ModelFamily, dtype: str) -> None:
    example: Example = EXAMPLES[family.name]
    config = dataclasses.replace(example.config, compute_dtype=dtype)
    params = jax.jit(functools.partial(family.init, config))(jax.random.key(0))

    def loss(params: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        logits = family.apply(config, params, *example.inputs, dropout_key=jax.random.key(1))
        return jnp.square(jax.nn.logsumexp(logits, axis=-1)).mean(), logits

    (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert logits.dtype == value.dtype == jnp.float32
    assert jnp.isfinite(logits).all()
    for path, x in flatten(gradient).items():
        assert x.dtype == jnp.float32, path
        assert jnp.isfinite(x).all(), path


@pytest.mark.slow
@families
def test_padding_has_no_effect(family: ModelFamily) -> None:
    example = EXAMPLES[family.name]
    params = drawn(family, example.config)
    longer = tuple(
        jnp.pad(x, ((0, 0), (0, 4)), constant_values=example.pad) if i in example.padded else x
        for i, x in enumerate(example.inputs)
    )
    ours, theirs = (apply(family, example.config, params, inputs) for inputs in (example.inputs, longer))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
