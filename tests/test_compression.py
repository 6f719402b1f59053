"""Quantizer and pruner against numpy references written from the paper's equations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.compression.account import nonzero_count, paper_bytes
from tlc_jax.compression.prune import apply_masks, magnitude_masks, prunable_count
from tlc_jax.compression.quantize import dequantize, quantize, quantize_tensor
from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.qtensor import QTensor
from tlc_jax.core.tree import count, flatten
from tlc_jax.models.encoder import init_mlm

MODEL = ModelConfig(num_layers=3, hidden_size=32, head_size=8, vocab_size=70, max_positions=16)


@pytest.fixture(scope="module")
def params() -> dict:
    """Every parameter drawn, biases too; a few ties and zeros."""
    start = jax.eval_shape(lambda: init_mlm(MODEL, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape).round(3), jnp.float32), start)


def reference(x: np.ndarray, bits: int) -> np.ndarray:
    """Paper 4.2 for one tensor, in float32."""
    low, high = x.min(), x.max()
    delta = np.float32(high - low) / np.float32(2**bits - 1)
    if delta == 0:
        return x
    return low + delta * np.round((np.clip(x, low, high) - low) / delta)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
def test_quantizer_is_the_papers(params: dict, bits: int) -> None:
    quantized = quantize(params, bits)
    found = flatten(dequantize(quantized))
    for path, x in flatten(params).items():
        x = np.asarray(x)
        slices = "layers" in path
        expected = np.stack([reference(s, bits) for s in x]) if slices else reference(x, bits)
        np.testing.assert_allclose(found[path], expected, rtol=0, atol=1e-6, err_msg=path)
    tensors = jax.tree.leaves(quantized, is_leaf=lambda q: isinstance(q, QTensor))
    assert all(int(q.codes.max()) == 2**bits - 1 and q.codes.dtype == jnp.uint8 for q in tensors)


def test_32_bits_are_the_parameters_themselves(params: dict) -> None:
    assert dequantize(quantize(params, 32)) is not None
    for path, x in flatten(dequantize(quantize(params, 32))).items():
        np.testing.assert_array_equal(x, flatten(params)[path])


@pytest.mark.parametrize("bits", [0, 9, 16, 33])
def test_other_bits_are_refused(params: dict, bits: int) -> None:
    with pytest.raises(UserError, match=f"not {bits}"):
        quantize(params, bits)


@given(
    values=st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=50),
    bits=st.integers(1, 8),
)
def test_error_is_at_most_half_a_step_and_twice_is_once(values: list[float], bits: int) -> None:
    x = jnp.asarray(values, jnp.float32)
    q = quantize_tensor(x, 2**bits - 1, (0,))
    once = dequantize({"x": q})["x"]
    slack = 1e-5 * float(jnp.abs(x).max()) + 1e-37
    assert (
        float(jnp.abs(once - x).max())
        <= float(q.delta.max()) / 2 * (1 if len(set(values)) > 1 else 0) + slack
    )
    assert int(q.codes.max()) < 2**bits
    twice = dequantize({"x": quantize_tensor(once, 2**bits - 1, (0,))})["x"]
    np.testing.assert_allclose(twice, once, atol=slack)


def test_half_goes_to_even() -> None:
    """A grid of integers: 0.5, 1.5 and 2.5 lie halfway."""
    x = jnp.array([0.0, 0.5, 1.5, 2.5, 3.0])
    np.testing.assert_array_equal(quantize_tensor(x, 3, (0,)).codes, [0, 0, 2, 2, 3])


def unstacked(params: dict) -> dict:
    """The same weights, each layer's tensors under paths of their own."""
    layers = params["encoder"]["layers"]
    rest = {key: value for key, value in params["encoder"].items() if key != "layers"}
    apart = {f"layer_{i}": jax.tree.map(lambda x, i=i: x[i], layers) for i in range(MODEL.num_layers)}
    return {**params, "encoder": {**rest, **apart}}


def test_stacked_equals_unstacked(params: dict) -> None:
    """Bit for bit, quantized, and pruned in all but the choice among equal magnitudes."""
    apart = flatten(dequantize(quantize(unstacked(params), 4)))
    for path, x in flatten(unstacked(dequantize(quantize(params, 4)))).items():
        np.testing.assert_array_equal(x, apart[path], err_msg=path)
    rng = np.random.default_rng(1)
    distinct = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
    one = flatten(unstacked(magnitude_masks(distinct, 0.5)))
    other = flatten(magnitude_masks(unstacked(distinct), 0.5))
    for path, mask in one.items():
        np.testing.assert_array_equal(mask, other[path], err_msg=path)


@pytest.mark.parametrize("sparsity", [0.0, 0.15, 0.45, 0.9, 0.999])
def test_pruner_takes_the_smallest_of_the_whole_model(params: dict, sparsity: float) -> None:
    masks = flatten(magnitude_masks(params, sparsity))
    flat = flatten(params)
    assert {path for path in flat if path not in masks} == {
        path for path in flat if path.endswith(("bias", "scale"))
    }
    size = prunable_count(params)
    assert size == sum(flat[path].size for path in masks)
    magnitudes = np.concatenate([np.abs(np.asarray(flat[path])).ravel() for path in sorted(masks)])
    kept = np.concatenate([np.asarray(masks[path]).ravel() for path in sorted(masks)])
    order = np.argsort(magnitudes, kind="stable")  # ties: the first go first
    expected = np.ones(size, bool)
    expected[order[: round(sparsity * size)]] = False
    np.testing.assert_array_equal(kept, expected)


def test_the_head_of_a_classification_stays(params: dict) -> None:
    """Its weights are the smallest of all after finetuning: it would be the first to go, as a whole."""
    head = {"dense": {"kernel": jnp.full((32, 32), 1e-6), "bias": jnp.zeros(32)}}
    masks = magnitude_masks({**params, "classification_head": head}, 0.9)
    assert masks["classification_head"] == {"dense": {"kernel": None, "bias": None}}
    alone = flatten(magnitude_masks(params, 0.9))
    for path, mask in alone.items():
        np.testing.assert_array_equal(mask, flatten(masks)[path], err_msg=path)


@given(levels=st.lists(st.floats(0, 0.95), min_size=2, max_size=4).map(sorted), seed=st.integers(0, 99))
def test_masks_are_monotone_whatever_the_weights_do(levels: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = None
    before = np.ones((7, 9), bool)
    for level in levels:
        weights = {"kernel": jnp.asarray(rng.normal(size=(7, 9)), jnp.float32)}
        masks = magnitude_masks(weights, level, masks)
        now = np.asarray(masks["kernel"])
        assert not (now & ~before).any(), "nothing comes back"
        assert (~now).sum() == round(level * 63)
        before = now


def test_pruned_then_quantized_stays_pruned(params: dict) -> None:
    masks = magnitude_masks(params, 0.6)
    found = flatten(dequantize(quantize(apply_masks(params, masks), 4, masks)))
    plain = flatten(dequantize(quantize(apply_masks(params, masks), 4)))
    revived = 0
    for path, mask in flatten(masks).items():
        zeros = np.asarray(found[path])[~np.asarray(mask)]
        assert (zeros == 0).all()
        assert not np.signbit(zeros).any()
        revived += int((np.asarray(plain[path])[~np.asarray(mask)] != 0).sum())
    assert revived > 0, "without the mask, zero is not on the grid: the test has teeth"


def test_paper_bytes(params: dict) -> None:
    assert paper_bytes(params, 32) == 4 * count(params)
    masks = magnitude_masks(params, 0.6)
    kept = count(params) - round(0.6 * prunable_count(params))
    assert nonzero_count(params, masks) == kept
    assert paper_bytes(params, 6, masks) == kept * 6 / 8
