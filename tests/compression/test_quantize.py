"""The quantizer against numpy references written from the paper's equations, and by its properties."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config import ModelConfig
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense
from tlc_jax.core.stacked import join, split
from tlc_jax.core.tree import flatten
from tlc_jax.models.encoder import init_mlm

MODEL = ModelConfig(num_layers=3, hidden_size=32, head_size=8, vocab_size=70, max_positions=16)
RANGES, ZEROS = ("minmax", "percentile:1", "mse"), ("float", "nudged")


@pytest.fixture(scope="module")
def params() -> dict:
    """Every parameter drawn, biases too; a few ties and zeros."""
    start = jax.eval_shape(lambda: init_mlm(MODEL, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape).round(3), jnp.float32), start)


def heavy(*shape: int, seed: int = 0) -> np.ndarray:
    """Weights with a few far out, as trained ones have."""
    return np.random.default_rng(seed).standard_t(3, size=shape).astype(np.float32)


def reference(x: np.ndarray, bits: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes and values of paper 4.2, in float32."""
    low, high = np.float32(low), np.float32(high)
    delta = (high - low) / np.float32(2**bits - 1)
    codes = np.rint((np.clip(x, low, high) - low) / delta)
    return codes, low + delta * codes


def paper(bits: int) -> QuantSpec:
    return QuantSpec(bits, zero="float")


def quantized(tensors: dict, spec: QuantSpec | None) -> dict:
    """The dense values of quantized tensors."""
    return to_dense({name: quantize_tensor(name, x, spec) for name, x in tensors.items()})


@pytest.mark.slow
@pytest.mark.parametrize("bits", range(1, 9))
def test_quantizer_is_the_papers(params: dict, bits: int) -> None:
    tensors = split(params)
    leaves = {name: quantize_tensor(name, x, paper(bits)) for name, x in tensors.items()}
    found = to_dense(leaves)
    for name, x in tensors.items():
        x = np.asarray(x)
        codes, values = reference(x, bits, x.min(), x.max())
        np.testing.assert_array_equal(leaves[name].codes, codes, err_msg=name)
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_every_layer_is_a_tensor_of_its_own(params: dict) -> None:
    """Split, compressed and joined: each slice of a stack as if it were alone, bit for bit."""
    tensors = split(params)
    joined = flatten(join(quantized(tensors, paper(4))))
    stacked = flatten(params)
    assert joined.keys() == stacked.keys()
    for path, x in stacked.items():
        slices = x if "/layers/" in path else x[None]
        alone = jnp.stack([quantize_tensor("", s, paper(4)).dense() for s in slices])
        np.testing.assert_array_equal(joined[path], alone if "/layers/" in path else alone[0], err_msg=path)


def test_32_bits_are_the_tensors_themselves(params: dict) -> None:
    tensors = split(params)
    for spec in (QuantSpec(32), None):
        found = quantized(tensors, spec)
        for name, x in tensors.items():
            np.testing.assert_array_equal(found[name], x)


@pytest.mark.parametrize("bits", [0, 9, 16, 33])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"not {bits}"):
        QuantSpec(bits)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("granularity", "column"),
        ("granularity", "group:0"),
        ("range", "percentile:50"),
        ("range", "max"),
        ("range", "percentile:0.001"),
    ],
)
def test_other_words_are_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be"):
        QuantSpec(**{field: value})


FLOATS = st.floats(-(2.0**60), 2.0**60, width=32)


@pytest.mark.slow
@given(values=st.lists(FLOATS, min_size=1, max_size=50), bits=st.integers(1, 8), zero=st.sampled_from(ZEROS))
def test_error_is_at_most_half_a_step_and_twice_is_once(values: list[float], bits: int, zero: str) -> None:
    x = jnp.asarray(values, jnp.float32)
    assume(zero == "float" or float(x.max() - x.min()) > 1e-3 * float(jnp.abs(x).max()))  # else z overflows
    q = quantize_tensor("", x, QuantSpec(bits, zero=zero))
    assert isinstance(q, QuantizedTensor)
    once = q.dense()
    slack = 1e-5 * float(jnp.abs(x).max()) + 1e-37
    half = float(q.delta.max()) / 2 if len(set(values)) > 1 or zero == "nudged" else 0
    assert float(jnp.abs(once - x).max()) <= half + slack
    assert int(q.codes.max()) < 2**bits
    # on the same grid: its own values are what it gives
    again = (
        jnp.round((once - q.offset) / q.delta) if zero == "float" else jnp.round(once / q.delta) + q.offset
    )
    np.testing.assert_array_equal(again.astype(jnp.uint8), q.codes)


@given(seed=st.integers(0, 999), bits=st.integers(1, 8))
def test_quantized_twice_is_quantized_once(seed: int, bits: int) -> None:
    x = jnp.asarray(heavy(40, seed=seed))
    once = quantize_tensor("", x, paper(bits)).dense()
    twice = quantize_tensor("", once, paper(bits)).dense()
    np.testing.assert_allclose(twice, once, rtol=0, atol=1e-5 * float(jnp.abs(x).max()))


def test_half_goes_to_even() -> None:
    """A grid of integers: 0.5, 1.5 and 2.5 lie halfway."""
    x = jnp.array([0.0, 0.5, 1.5, 2.5, 3.0])
    for zero in ZEROS:
        np.testing.assert_array_equal(quantize_tensor("", x, QuantSpec(2, zero=zero)).codes, [0, 0, 2, 2, 3])


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_nudged_zero_is_a_code(bits: int) -> None:
    """torch's formula: code = clamp(round(x / delta) + z), value = (code - z) * delta."""
    x = heavy(30, 50)
    x[3, 4:9] = 0.0
    q = quantize_tensor("", jnp.asarray(x), QuantSpec(bits))
    delta = (x.max() - x.min()) / np.float32(2**bits - 1)
    z = np.rint(-x.min() / delta)
    codes = np.clip(np.rint(x / delta) + z, 0, 2**bits - 1)
    np.testing.assert_array_equal(q.codes, codes)
    np.testing.assert_array_equal(q.dense(), (codes - z).astype(np.float32) * delta)
    assert (np.asarray(q.dense())[3, 4:9] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("how", RANGES)
@pytest.mark.parametrize(
    ("name", "granularity", "blocks"),
    [
        ("a/kernel", "row", [(slice(None), j) for j in range(6)]),
        ("a/token_embedding", "row", list(range(12))),
        ("a/kernel", "group:4", [(slice(i, i + 4), j) for i in (0, 4, 8) for j in range(6)]),
        ("a/token_embedding", "group:3", [(i, slice(j, j + 3)) for i in range(12) for j in (0, 3)]),
    ],
)
def test_rows_and_groups_are_tensors_of_their_own(
    name: str, granularity: str, blocks: list, how: str
) -> None:
    x = jnp.asarray(heavy(12, 6))
    for zero in ZEROS:
        q = quantize_tensor(name, x, QuantSpec(4, granularity, how, zero))
        assert q.delta.size == q.offset.size == len(blocks)
        found = q.dense()
        for block in blocks:
            spec = QuantSpec(4, "tensor", how, zero)
            alone = quantize_tensor("", x[block], spec)
            if zero != "float":  # beside a pruned weight the range holds zero too
                kept = np.append(np.ones(x[block].shape, bool), False)
                alone = quantize_tensor("", jnp.append(x[block], 0), spec, kept)
            np.testing.assert_allclose(
                found[block], alone.dense()[: x[block].size], atol=1e-6, err_msg=str(block)
            )


def test_vectors_are_one_block_and_odd_groups_are_refused() -> None:
    assert quantize_tensor("a/bias", jnp.arange(5.0), QuantSpec(4, "group:4")).delta.size == 1
    with pytest.raises(UserError, match="group:4 does not divide rows of 10 in a/kernel"):
        quantize_tensor("a/kernel", jnp.zeros((10, 4)), QuantSpec(4, "group:4"))


@pytest.mark.parametrize("masked", [False, True])
def test_percentile_leaves_as_many_outside_at_either_end(masked: bool) -> None:
    x = heavy(40, 50)
    mask = np.abs(x) > 0.3 if masked else None
    q = quantize_tensor("", jnp.asarray(x), QuantSpec(5, range="percentile:0.5", zero="float"), mask)
    ordered = np.sort(x.ravel() if mask is None else x[mask])
    outside = int(0.005 * ordered.size)
    assert outside >= 5
    low, high = ordered[outside], ordered[-1 - outside]
    _, values = reference(x, 5, low, high)
    kept = np.ones(x.shape, bool) if mask is None else mask
    np.testing.assert_allclose(np.asarray(q.dense())[kept], values[kept], atol=1e-6)


def squared_error(x: np.ndarray, bits: int, low: float, high: float) -> float:
    return float(((reference(x, bits, low, high)[1] - x) ** 2).sum())


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["heavy", "shifted", "skewed"])
def test_mse_range_is_nearly_the_best_there_is(bits: int, kind: str) -> None:
    """Against every one of 150 x 150 ranges."""
    rng = np.random.default_rng(1)
    x = {
        "heavy": heavy(600),
        "shifted": (1 + 0.1 * heavy(600)).astype(np.float32),
        "skewed": rng.exponential(size=600).astype(np.float32),
    }[kind]
    q = quantize_tensor("", jnp.asarray(x), QuantSpec(bits, range="mse", zero="float"))
    found = float(((np.asarray(q.dense()) - x) ** 2).sum())
    middle, ends = x.mean(), np.linspace(0.02, 1, 150)
    lows, highs = middle + ends * (x.min() - middle), middle + ends * (x.max() - middle)
    brute = min(squared_error(x, bits, low, high) for low in lows for high in highs)
    assert found <= 1.05 * brute
    assert found <= squared_error(x, bits, x.min(), x.max())


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["tensor", "row", "group:16"])
@pytest.mark.parametrize("zero", ZEROS)
@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_mse_range_is_never_worse_than_min_and_max(
    bits: int, zero: Literal["float", "nudged"], granularity: str
) -> None:
    """On the grid that is used: a nudged zero moves it."""
    x = heavy(64, 48)
    errors = []
    for how in ("mse", "minmax"):
        q = quantize_tensor("kernel", jnp.asarray(x), QuantSpec(bits, granularity, how, zero))
        errors.append(((np.asarray(q.dense()) - x) ** 2).sum())
    assert errors[0] <= errors[1] * (1 + 1e-6)


def test_mse_range_looks_at_kept_weights_only() -> None:
    """Pruned weights are exact zeros: a grid that spends codes on them is worse."""
    x = np.concatenate([np.linspace(-0.4, 0.4, 500), np.linspace(2, 3, 100)]).astype(np.float32)
    q = quantize_tensor("", jnp.asarray(x), QuantSpec(3, range="mse", zero="float"), np.abs(x) > 1)
    found = np.asarray(q.dense())
    assert (found[:500] == 0).all()
    assert np.abs(found[500:] - x[500:]).max() < 0.1  # one range over all of them would be 0.24 coarse


@pytest.mark.slow
def test_codes_are_sharded_like_the_weights() -> None:
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp", None))
    x = jax.device_put(heavy(64, 32), sharding)
    for how in RANGES:
        q = quantize_tensor("a/kernel", x, QuantSpec(4, range=how))
        assert q.codes.sharding.is_equivalent_to(sharding, 2)
        assert q.dense().sharding.is_equivalent_to(sharding, 2)
        np.testing.assert_array_equal(q.codes, quantize_tensor("", jnp.asarray(heavy(64, 32)), q.spec).codes)


def test_split_and_join_are_inverse(params: dict) -> None:
    for x, y in zip(jax.tree.leaves(join(split(params))), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(UserError, match=r"kernel exists only for the layers \[0, 2\]"):
        join({"encoder/layers/0/a/kernel": np.ones(2), "encoder/layers/2/a/kernel": np.ones(2)})


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("zero", ["nudged", "float"])
@pytest.mark.parametrize("bits", [2, 8])
def test_ranges_of_bfloat16_are_those_that_codes_were_made_for(
    bits: int, zero: Literal["nudged", "float"], granularity: str
) -> None:
    """What is stored has 16 bits, covers the range, and nothing is off by more than half a step."""
    x = heavy(64, 48)
    leaf = quantize_tensor("a", x, QuantSpec(bits, granularity, "minmax", zero, "bfloat16"))
    assert isinstance(leaf, QuantizedTensor)
    parts = leaf.encode(coded=False)[1]
    assert parts["delta"].dtype == np.uint16
    assert sum(part.nbytes for part in parts.values()) == leaf.sizes().format_bytes
    delta = (parts["delta"].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(leaf.delta, delta)
    exact = np.asarray(quantize_tensor("a", x, QuantSpec(bits, granularity, "minmax", zero)).delta)  # type: ignore[attr-defined]
    assert (exact <= delta).all()
    assert (delta < exact * (1 + 2**-6)).all()
    assert (np.abs(np.asarray(leaf.dense()) - x) <= delta * (0.5 + 1e-4)).all()
    if zero == "float":
        assert parts["offset"].dtype == np.uint16


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_symmetric_codes(bits: int, dtype: Literal["float32", "bfloat16"]) -> None:
    """By the formula, with the delta that is stored; the code of zero takes two bytes a tensor at most."""
    x = heavy(32, 40)
    leaf = quantize_tensor("a", x, QuantSpec(bits, "row", "minmax", "symmetric", dtype))
    assert isinstance(leaf, QuantizedTensor)
    half, delta = 2 ** (bits - 1), np.asarray(leaf.delta)
    exact = np.abs(x).max(axis=1, keepdims=True) / np.float32(half - 0.5)
    np.testing.assert_allclose(delta, exact, rtol=1e-6 if dtype == "float32" else 2**-7)
    assert (delta >= exact * (1 - 1e-6)).all()
    codes = np.clip(np.rint(x / delta) + half, 0, 2 * half - 1)
    np.testing.assert_array_equal(leaf.codes, codes)
    np.testing.assert_array_equal(leaf.dense(), delta * (codes - half).astype(np.float32))
    assert leaf.encode(coded=False)[1]["offset"].nbytes <= 2
    with pytest.raises(ValueError, match="symmetric codes of 1 bit"):
        QuantSpec(1, zero="symmetric")


def test_the_symmetric_range_of_least_squares_is_the_best_of_many() -> None:
    x, bits = heavy(1, 4000), 4
    leaf = quantize_tensor("a", x, QuantSpec(bits, "tensor", "mse", "symmetric"))
    found = np.square(np.asarray(leaf.dense()) - x).sum()
    half, errors = 2 ** (bits - 1), []
    for share in np.linspace(0.02, 1, 2000):
        delta = share * np.abs(x).max() / (half - 0.5)
        errors.append(np.square(delta * np.clip(np.rint(x / delta), -half, half - 1) - x).sum())
    assert min(errors) * (1 - 1e-4) <= found <= 1.01 * min(errors)
    assert found < 0.5 * errors[-1]
