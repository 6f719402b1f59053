"""Heads and feed-forward units chosen as loops over the definition choose them, and a smaller model whose
logits are those of the large one with the others silenced."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.compression.structured import Kept, keep_units, largest_units
from tlc_jax.config import ModelConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.models.classifier import apply_classifier, init_classifier
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.encoder_family import ENCODER

# heads that are together wider than the model, so that no width stands for another
CONFIG = ModelConfig(
    num_layers=3,
    hidden_size=20,
    head_size=6,
    num_heads=5,
    feed_forward_size=28,
    vocab_size=50,
    max_positions=12,
)
CLASSES = 3

mlm = jax.jit(apply_mlm, static_argnums=0)
classify = jax.jit(apply_classifier, static_argnums=0, static_argnames="classes")


def drawn(kind: str = "mlm", seed: int = 0) -> dict[str, Any]:
    """Every parameter, biases and scales too, at random: large enough that each head and unit matters."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.4 * rng.normal(size=x.shape), jnp.float32), shapes(kind))


@functools.cache
def shapes(kind: str) -> dict[str, Any]:
    def init(key: jax.Array) -> dict[str, Any]:
        return init_mlm(CONFIG, key) if kind == "mlm" else init_classifier(CONFIG, CLASSES, key)

    return jax.eval_shape(init, jax.random.key(0))


def small_integers(config: ModelConfig, seed: int) -> dict[str, Any]:
    """Layers alone, as numpy arrays with many equal magnitudes, whose sums of squares are exact."""
    rng = np.random.default_rng(seed)
    layers, hidden = config.num_layers, config.hidden_size
    inner, rows = config.heads * config.head_size, config.feed_forward

    def dense(inputs: int, outputs: int) -> dict[str, np.ndarray]:
        own = {"kernel": (layers, inputs, outputs), "bias": (layers, outputs)}
        return {name: rng.integers(-1, 2, shape).astype(np.float32) for name, shape in own.items()}

    attention = {name: dense(hidden, inner) for name in ("query", "key", "value")}
    attention["output"] = dense(inner, hidden)
    feed_forward = {"expand": dense(hidden, rows), "contract": dense(rows, hidden)}
    return {"encoder": {"layers": {"attention": attention, "feed_forward": feed_forward}}}


def chosen(params: dict[str, Any], config: ModelConfig, heads: int, rows: int) -> tuple[Kept, Kept]:
    """The largest heads and feed-forward units of each layer."""
    kinds = ENCODER.prunable_units(config)
    return largest_units(params, kinds[0], heads), largest_units(params, kinds[1], rows)


def shrink(params: dict[str, Any], config: ModelConfig, kept: tuple[Kept, Kept]) -> tuple[dict, Any]:
    return keep_units(params, config, list(zip(ENCODER.prunable_units(config), kept, strict=True)))


def silence(params: dict[str, Any], config: ModelConfig, kept: tuple[Kept, Kept]) -> dict[str, Any]:
    """The model at its full size, with zeros for the other units in what reads them."""
    silenced = dict(tree.flatten(params))
    for kind, units in zip(ENCODER.prunable_units(config), kept, strict=True):
        x = np.array(silenced[kind.reader])
        for layer in range(len(x)):
            for unit in set(range(kind.count)) - set(units[layer].tolist()):
                x[layer, unit * kind.size : (unit + 1) * kind.size] = 0
        silenced[kind.reader] = x
    return tree.map_with_path(lambda path, _: silenced[path], params)


def by_loops(params: dict[str, Any], config: ModelConfig, heads: int, rows: int) -> tuple[list, list]:
    """The definition: for each layer the heads and the units that stay."""
    layers = jax.tree.map(np.asarray, params["encoder"]["layers"])
    size, kept_heads, kept_rows = config.head_size, [], []
    for layer in range(config.num_layers):
        part: Any = jax.tree.map(lambda x, layer=layer: x[layer], layers)
        attention, feed_forward = part["attention"], part["feed_forward"]
        norms = []
        for head in range(config.heads):
            weights = []
            for name in ("query", "key", "value"):
                for place in range(head * size, (head + 1) * size):
                    weights += [*attention[name]["kernel"][:, place], attention[name]["bias"][place]]
            for place in range(head * size, (head + 1) * size):
                weights += [*attention["output"]["kernel"][place]]
            norms.append(np.linalg.norm(np.array(weights, np.float64)))
        kept_heads.append(largest(norms, heads))
        norms = []
        for row in range(config.feed_forward):
            expand, contract = feed_forward["expand"], feed_forward["contract"]
            weights = [*expand["kernel"][:, row], expand["bias"][row], *contract["kernel"][row]]
            norms.append(np.linalg.norm(np.array(weights, np.float64)))
        kept_rows.append(largest(norms, rows))
    return kept_heads, kept_rows


def largest(norms: list, count: int) -> list[int]:
    """What stays when the smallest go one after the other, the first among equals first."""
    left = list(range(len(norms)))
    while len(left) > count:
        left.remove(min(left, key=lambda i: norms[i]))  # min gives the first
    return left


def inputs() -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(9)
    tokens = rng.integers(5, CONFIG.vocab_size, (4, 12))
    tokens[1, 8:] = 1  # a row with pads
    return jnp.asarray(tokens), jnp.asarray(rng.integers(0, 8, (4, 3)))


def differ(kept: np.ndarray) -> bool:
    return any((row != kept[0]).any() for row in kept)


def test_chosen_as_by_loops() -> None:
    params = drawn()
    units = chosen(params, CONFIG, 2, 11)
    heads, rows = by_loops(params, CONFIG, 2, 11)
    np.testing.assert_array_equal(units[0], heads)
    np.testing.assert_array_equal(units[1], rows)
    assert differ(units[0])
    assert differ(units[1])


@pytest.mark.parametrize("name", ["query", "key", "value", "output"])
@pytest.mark.parametrize("kind", ["kernel", "bias"])
def test_each_weight_of_a_head_counts(name: str, kind: str) -> None:
    """Head 1 has the only weight of layer 0; the output's bias is nobody's."""
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), drawn())
    where = (0, 7) if (name, kind) == ("output", "kernel") else (0, ..., 7)
    params["encoder"]["layers"]["attention"][name][kind][where] = 1
    kept = chosen(params, CONFIG, 1, 1)[0][:, 0]
    np.testing.assert_array_equal(kept, [4 if (name, kind) == ("output", "bias") else 1, 4, 4])


@pytest.mark.slow
@given(data=st.data(), seed=st.integers(0, 999))
def test_kept_are_sorted_unique_and_by_loops_whatever_is_equal(data: st.DataObject, seed: int) -> None:
    sizes = {"num_layers": 2, "hidden_size": 2, "head_size": 2, "num_heads": 4, "feed_forward_size": 6}
    config = ModelConfig(**sizes)
    heads, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    params = small_integers(config, seed)
    units = chosen(params, config, heads, rows)
    for kept, count, there in ((units[0], heads, 4), (units[1], rows, 6)):
        assert kept.shape == (2, count)
        for layer in kept.tolist():
            assert layer == sorted(set(layer))
            assert set(layer) <= set(range(there))
    assert (units[0].tolist(), units[1].tolist()) == by_loops(params, config, heads, rows)
    smaller, _ = shrink(params, config, units)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(smaller)), "numpy stays numpy"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlm", "classifier"])
def test_logits_are_those_of_the_masked_model(kind: str) -> None:
    params, (tokens, positions) = drawn(kind), inputs()
    units = chosen(params, CONFIG, 3, 10)
    assert differ(units[0])
    assert differ(units[1])

    def logits(config: ModelConfig, params: dict[str, Any]) -> np.ndarray:
        if kind == "mlm":
            return np.asarray(mlm(config, params, tokens, positions))
        return np.asarray(classify(config, params, tokens, classes=CLASSES))

    small = logits(*shrink(params, CONFIG, units)[::-1])
    np.testing.assert_allclose(small, logits(CONFIG, silence(params, CONFIG, units)), rtol=0, atol=1e-5)
    assert np.abs(small - logits(CONFIG, params)).max() > 0.1, "what went had a say"
    one_choice = (units[0][:1].repeat(3, axis=0), units[1][:1].repeat(3, axis=0))
    other = logits(*shrink(params, CONFIG, one_choice)[::-1])
    assert np.abs(small - other).max() > 0.1, "each layer has its own"


def test_parameter_counts() -> None:
    params = drawn()
    shrunk, smaller = shrink(params, CONFIG, chosen(params, CONFIG, 2, 9))
    assert smaller == dataclasses.replace(CONFIG, num_heads=2, feed_forward_size=9)
    fresh = jax.eval_shape(lambda key: init_mlm(smaller, key), jax.random.key(0))
    assert jax.tree.map(jnp.shape, shrunk) == jax.tree.map(jnp.shape, fresh)
    a_head = 3 * (20 * 6 + 6) + 6 * 20
    a_unit = 20 + 1 + 20
    assert tree.count(params) - tree.count(shrunk) == 3 * ((5 - 2) * a_head + (28 - 9) * a_unit)


def test_all_units_are_the_same_model() -> None:
    params = drawn("classifier")
    units = chosen(params, CONFIG, CONFIG.heads, CONFIG.feed_forward)
    shrunk, config = shrink(params, CONFIG, units)
    assert config == CONFIG
    for same in (shrunk, silence(params, CONFIG, units)):
        assert jax.tree.structure(same) == jax.tree.structure(params)
        jax.tree.map(np.testing.assert_array_equal, same, params)


@pytest.mark.slow
def test_the_smaller_model_trains() -> None:
    params, (tokens, positions) = drawn(), inputs()
    shrunk, smaller = shrink(params, CONFIG, chosen(params, CONFIG, 2, 9))
    targets = jnp.take_along_axis(tokens, positions, axis=1)

    def loss(params: dict[str, Any]) -> jax.Array:
        logits = jax.nn.log_softmax(apply_mlm(smaller, params, tokens, positions))
        return -jnp.take_along_axis(logits, targets[:, :, None], axis=2).mean()

    step = jax.jit(jax.value_and_grad(loss))
    before, gradient = step(shrunk)
    after, _ = step(jax.tree.map(lambda x, slope: x - 0.01 * slope, shrunk, gradient))
    assert float(after) < float(before)


@pytest.mark.parametrize("heads", [0, 6])
def test_impossible_numbers_of_heads_are_refused(heads: int) -> None:
    with pytest.raises(UserError, match=f"a layer has 5 heads: keep 1 to 5 of them, not {heads}"):
        chosen(drawn(), CONFIG, heads, 4)


@pytest.mark.parametrize("rows", [-1, 29])
def test_impossible_numbers_of_units_are_refused(rows: int) -> None:
    with pytest.raises(UserError, match=f"28 feed-forward units: keep 1 to 28 of them, not {rows}"):
        chosen(drawn(), CONFIG, 2, rows)


def test_parameters_of_another_model_are_refused() -> None:
    params = drawn()
    other = dataclasses.replace(CONFIG, num_heads=4)
    with pytest.raises(UserError, match=r"query/kernel has the shape \(3, 20, 30\), and .* 24 along axis 2"):
        chosen(params, other, 2, 9)
    units = chosen(params, CONFIG, 2, 9)
    with pytest.raises(UserError, match="query/kernel has the shape"):
        shrink(params, dataclasses.replace(CONFIG, num_layers=2), units)
    with pytest.raises(UserError, match="there is no encoder/layers/attention/query/kernel"):
        shrink({"encoder": {}}, CONFIG, units)


@pytest.mark.parametrize(
    "heads", [[[1, 0]] * 3, [[0, 0]] * 3, [[0, 5]] * 3, [[-1, 0]] * 3, [[0, 1]] * 2, [[]] * 3]
)
def test_units_that_do_not_fit_are_refused(heads: list) -> None:
    rows = chosen(drawn(), CONFIG, 2, 9)[1]
    units = np.array(heads, np.int64), rows[: len(heads)]
    with pytest.raises(UserError, match="heads to keep must be ascending numbers from 0 to 4 for each of 3"):
        shrink(drawn(), CONFIG, units)


def test_not_a_number_is_refused() -> None:
    params = drawn()
    bias = params["encoder"]["layers"]["feed_forward"]["expand"]["bias"]
    params["encoder"]["layers"]["feed_forward"]["expand"]["bias"] = bias.at[1, 3].set(jnp.nan)
    with pytest.raises(UserError, match="feed_forward/expand/bias has values that are not finite"):
        chosen(params, CONFIG, 2, 9)
