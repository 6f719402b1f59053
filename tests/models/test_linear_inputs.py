"""Sums of the inputs of matrices, against models cut off before a matrix, derivatives and counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.config import EncoderDecoderConfig, ModelConfig
from tlc_jax.core.stacked import split
from tlc_jax.core.tree import flatten
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.encoder import apply_mlm, encode, init_mlm
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.models.encoder_decoder import encode as encode_source
from tlc_jax.models.families import family_of
from tlc_jax.models.linear_inputs import Sum, input_sums, use_sums

SMALL: dict[str, Any] = {"num_layers": 2, "hidden_size": 16, "head_size": 8, "vocab_size": 30}
ENCODER = ModelConfig(**SMALL, max_positions=12)
BERT = ModelConfig(**SMALL, max_positions=12, architecture="bert", token_types=2, pad_id=0, position_offset=0)
TRANSLATION = EncoderDecoderConfig(**SMALL)


def drawn(config: Any, init: Any) -> Any:
    """Parameters that are not small, so that no layer is close to the identity."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape) / 3, jnp.float32),
        jax.eval_shape(lambda key: init(config, key), jax.random.key(0)),
    )


def tokens(pad: int, shape: tuple[int, int], seed: int = 0) -> jax.Array:
    """Rows of different lengths, with pads behind them."""
    rng = np.random.default_rng(seed)
    ids, lengths = rng.integers(5, 30, shape), rng.integers(2, shape[1], (shape[0], 1))
    return jnp.asarray(np.where(np.arange(shape[1]) < lengths, ids, pad))


def sums(config: Any, params: Any, batch: Any, compute: Any) -> dict[str, Sum]:
    """Of all matrices, and of all tables as `uses/NAME`; the model computes what it does anyway."""
    rules, paths = family_of(config).input_rules, frozenset(flatten(params))
    assert rules is not None

    @jax.jit
    def both() -> Any:
        results: list[Any] = []
        found = input_sums(rules, config, params, lambda: results.append(compute()), batch, paths)
        uses = use_sums(rules, config, params, batch, paths)
        return results[0], compute(), found | {f"uses/{name}": x for name, x in uses.items()}

    observed, plain, found = both()
    np.testing.assert_allclose(observed, plain, atol=1e-5)
    return found


def second_moment(x: Any, weights: Any) -> np.ndarray:
    x = np.asarray(x, np.float64).reshape(-1, np.shape(x)[-1])
    return x.T @ (x * np.asarray(weights, np.float64).reshape(-1, 1))


def mlm_sums(config: ModelConfig) -> tuple[Any, dict[str, Any], dict[str, Sum]]:
    params = drawn(config, init_mlm)
    ids = tokens(config.pad_id, (3, 9))
    batch = {
        "tokens": ids,
        "positions": jnp.asarray([[0, 1], [1, 0], [0, 0]]),
        "weights": jnp.asarray([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]),
    }
    compute = lambda: apply_mlm(config, params, ids, batch["positions"])  # noqa: E731
    return params, batch, sums(config, params, batch, compute)


def test_every_matrix_of_an_encoder_has_its_inputs() -> None:
    params, batch, found = mlm_sums(ENCODER)
    tables = {"encoder/position_embedding"}
    assert {n for n in found if "uses" not in n} == {
        n for n, x in split(params).items() if x.ndim > 1
    } - tables
    real = np.asarray(batch["tokens"] != ENCODER.pad_id)
    assert all(float(found[n][1]) == real.sum() for n in found if n.startswith("encoder/layers"))
    assert float(found["mlm_head/dense/kernel"][1]) == batch["weights"].sum()


@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_inputs_of_the_second_layer(part: str) -> None:
    """They are what a model of one layer returns whose last norm is that before them."""
    params, batch, found = mlm_sums(ENCODER)
    layers = params["encoder"]["layers"]
    cut = {**params["encoder"], "layers": jax.tree.map(lambda w: w[:1], layers)}
    cut["final_norm"] = jax.tree.map(lambda w: w[1], layers["attention_norm"])
    one = dataclasses.replace(ENCODER, num_layers=1)
    x = encode(one, {"encoder": cut}, batch["tokens"])
    expected = second_moment(x, batch["tokens"] != ENCODER.pad_id)
    np.testing.assert_allclose(found[f"encoder/layers/1/attention/{part}/kernel"][0], expected, rtol=1e-4)


def test_inputs_of_an_output_matrix_are_derivatives_of_logits() -> None:
    untied = dataclasses.replace(BERT, tied_output=False)
    params, batch, found = mlm_sums(untied)

    def logits(matrix: jax.Array) -> jax.Array:
        head = {**params["mlm_head"], "output_embedding": matrix}
        return apply_mlm(untied, {**params, "mlm_head": head}, batch["tokens"], batch["positions"])[..., 7]

    x = jax.jit(jax.jacobian(logits))(params["mlm_head"]["output_embedding"])[:, :, 7]
    expected = second_moment(x, batch["weights"])
    np.testing.assert_allclose(found["mlm_head/output_embedding"][0], expected, rtol=1e-4, atol=1e-5)
    assert "encoder/token_embedding" not in found


@pytest.mark.slow
def test_a_classifier_has_those_of_its_head_and_only_looks_up() -> None:
    init = lambda config, key: init_classifier(config, 3, key)  # noqa: E731
    params, ids = drawn(BERT, init), tokens(BERT.pad_id, (4, 7))
    batch = {"tokens": ids, "weights": jnp.asarray([1.0, 1.0, 1.0, 0.0])}

    def logits(kernel: jax.Array) -> jax.Array:
        head = {**params["classification_head"]["output"], "kernel": kernel}
        changed = {**params, "classification_head": {**params["classification_head"], "output": head}}
        return apply_classifier(BERT, changed, ids, classes=3)

    kernel = params["classification_head"]["output"]["kernel"]
    found = sums(BERT, params, batch, lambda: logits(kernel))
    expected = second_moment(jax.jit(jax.jacobian(logits))(kernel)[:, 0, :, 0], batch["weights"])
    np.testing.assert_allclose(found["classification_head/output/kernel"][0], expected, rtol=1e-4)
    assert "encoder/token_embedding" not in found
    real = np.asarray(ids)[np.asarray(ids) != BERT.pad_id]
    np.testing.assert_array_equal(found["uses/encoder/token_embedding"][0], np.bincount(real, minlength=30))
    np.testing.assert_array_equal(found["uses/encoder/token_type_embedding"][0], [real.size, 0])
    lengths = (np.asarray(ids) != BERT.pad_id).sum(axis=1)
    uses = [(lengths > position).sum() for position in range(12)]
    np.testing.assert_array_equal(found["uses/encoder/position_embedding"][0], uses)


@pytest.mark.slow
def test_layers_that_share_parameters_add_up() -> None:
    """As those of a model that has each of its own, with equal parameters."""
    shared = dataclasses.replace(ENCODER, shared_layers="attention")
    params, batch, found = mlm_sums(shared)
    repeated = jax.tree.map(lambda w: jnp.broadcast_to(w, (2, *w.shape[1:])), params["encoder"]["layers"])
    whole = {**params, "encoder": {**params["encoder"], "layers": repeated}}
    compute = lambda: apply_mlm(ENCODER, whole, batch["tokens"], batch["positions"])  # noqa: E731
    each = sums(ENCODER, whole, batch, compute)
    first, second = (np.asarray(each[f"encoder/layers/{i}/attention/output/kernel"][0]) for i in range(2))
    np.testing.assert_allclose(
        found["encoder/layers/0/attention/output/kernel"][0], first + second, rtol=1e-5
    )
    name = "encoder/layers/1/feed_forward/contract/kernel"
    np.testing.assert_allclose(found[name][0], each[name][0], rtol=1e-5)


def test_an_encoder_decoder_counts_each_side() -> None:
    params = drawn(TRANSLATION, init_encoder_decoder)
    source, target = tokens(0, (3, 8)), tokens(0, (3, 6), seed=1)
    batch = {"source": source, "targets": target, "weights": (target != 0).astype(jnp.float32)}

    def logits(embedding: jax.Array) -> jax.Array:
        changed = {**params, "shared": {"token_embedding": embedding}}
        return apply_encoder_decoder(TRANSLATION, changed, source, target)

    embedding = params["shared"]["token_embedding"]
    found = sums(TRANSLATION, params, batch, lambda: logits(embedding))
    memory = second_moment(encode_source(TRANSLATION, params, source), source != 0)
    for part in ("key", "value"):
        name = f"decoder/layers/1/cross_attention/{part}/kernel"
        np.testing.assert_allclose(found[name][0], memory, rtol=1e-4, atol=1e-4)
    assert float(found["decoder/layers/0/cross_attention/query/kernel"][1]) == (target != 0).sum()
    # row 1 is no token of these sentences: its derivative is that of the output matrix alone
    derivative = jax.jacobian(lambda embedding: logits(embedding)[..., 1])
    x = jax.jit(derivative)(embedding)[:, :, 1]
    expected = second_moment(x, target != 0)
    np.testing.assert_allclose(found["shared/token_embedding"][0], expected, rtol=1e-4, atol=1e-4)
    both = np.concatenate([np.asarray(source).ravel(), np.asarray(target).ravel()])
    expected = np.bincount(both[both != 0], minlength=30)
    np.testing.assert_array_equal(found["uses/shared/token_embedding"][0], expected)
