"""Packed matrices are, bit for bit, what they are decoded to, as a whole, by tiles and by rows."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quantized import in_numpy, random_codes, stacked
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.packed import PackedTensor, stack, summed_axis

SHAPE = (24, 16)
NAMES = ("a/kernel", "token_embedding")
GRANULARITIES = ("tensor", "row", "group:4")
SPECS = [
    *(QuantSpec(bits, "group:4") for bits in range(1, 9)),
    *(QuantSpec(bits, g, zero="symmetric") for bits, g in zip((2, 4, 7), GRANULARITIES, strict=True)),
    *(QuantSpec(bits, g, zero="float") for bits, g in zip((3, 5, 8), GRANULARITIES, strict=True)),
    QuantSpec(4, "row"),
    QuantSpec(6, range_dtype="bfloat16"),
    QuantSpec(4, "group:4", zero="float", range_dtype="bfloat16"),
]


def same_bits(found: jax.Array, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found).view(np.uint32), np.asarray(expected).view(np.uint32))


def expanded(tensors: list[PackedTensor]) -> list[jax.Array]:
    """In one program, since compiling takes the time."""
    return jax.jit(lambda tensors: [x.expand() for x in tensors])(tensors)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_the_decoder(name: str) -> None:
    leaves = [random_codes(name, SHAPE, spec, sparsity) for spec in SPECS for sparsity in (0.0, 0.5)]
    leaves += [random_codes(name, SHAPE, spec, 0.5, far=True) for spec in SPECS[1:8:3]]
    packed = [x.packed(x.spec.bits, summed_axis(name)) for x in leaves]
    assert all(x.shape == SHAPE and x.size == 24 * 16 for x in packed)
    for leaf, values in zip(leaves, expanded(packed), strict=True):
        if leaf.spec.zero == "float":  # XLA decides whether a sum of a product is rounded once or twice
            within = 2.0**-23 * np.abs(in_numpy(leaf)).max()
            np.testing.assert_allclose(values, in_numpy(leaf), rtol=0, atol=within)
            np.testing.assert_allclose(values, leaf.dense(), rtol=0, atol=within)
        else:
            same_bits(values, in_numpy(leaf))
            same_bits(values, np.asarray(leaf.dense()))


def test_a_weight_takes_its_bits_and_only_zeros_without_a_code_a_mask() -> None:
    for bits, sparsity, far in itertools.product(range(1, 9), (0.0, 0.5), (False, True)):
        leaf = random_codes("a/kernel", (64, 32), QuantSpec(bits), sparsity, far)
        packed = leaf.packed(bits, -2)
        stored = 8 if bits == 7 else bits
        assert sum(plane.nbytes for plane in packed.planes) == 64 * 32 * stored // 8
        has_code = 0 <= leaf.offset.item() < 2**bits
        assert (packed.mask is not None) == (sparsity > 0 and not has_code)
        assert packed.mask is None or packed.mask.nbytes == 64 * 32 // 8


@pytest.mark.parametrize("size", [1, 7, 9])
def test_odd_lengths(size: int) -> None:
    leaves = [random_codes("a/kernel", (size, 3), QuantSpec(bits, "row"), 0.4) for bits in (3, 8)]
    leaves += [random_codes("a", (2, size), QuantSpec(5, "row", zero="symmetric"), 0.4)]
    packed = [x.packed(x.spec.bits, -1 if x.shape[0] == 2 else -2) for x in leaves]
    for leaf, values in zip(leaves, expanded(packed), strict=True):
        same_bits(values, in_numpy(leaf))


def test_layers_that_differ_are_stacked() -> None:
    """In bits, granularity, and whether any weight is pruned."""
    specs = [QuantSpec(2), QuantSpec(5, "row"), QuantSpec(3, "group:6"), QuantSpec(4, "group:4")]
    leaves = {
        f"encoder/layers/{i}/a/kernel": random_codes("a/kernel", SHAPE, spec, 0.5 * (i % 2), far=i == 3)
        for i, spec in enumerate(specs)
    }
    values, packed = stacked("encoder/layers/a/kernel", list(leaves), leaves, 5)
    assert packed.shape == (4, *SHAPE)
    same_bits(expanded([packed])[0], values)
    for layer in range(4):
        same_bits(expanded([packed.of_layer(layer)])[0], values[layer])


def test_layers_that_are_computed_in_different_ways_are_not() -> None:
    one, other = (random_codes("a/kernel", SHAPE, QuantSpec(4, zero=zero)) for zero in ("nudged", "float"))
    assert stack([one.packed(4, -2), other.packed(4, -2)]) is None
    assert stack([one.packed(4, -2), one.packed(4, -1)]) is None


def tiles(packed: PackedTensor, count: int) -> list[jax.Array]:
    starts = range(0, packed.free - count + 1, 3)
    return jax.jit(lambda x, starts: [x.tile(start, count) for start in starts])(packed, list(starts))


@pytest.mark.parametrize("name", NAMES)
def test_tiles_and_rows_are_parts_of_the_whole(name: str) -> None:
    leaf: QuantizedTensor = random_codes(name, SHAPE, QuantSpec(3, "group:4", zero="symmetric"), 0.4)
    whole = in_numpy(leaf)
    along = whole if name == "a/kernel" else whole.T
    layers = [
        leaf.packed(3, summed_axis(name)),
        random_codes(name, SHAPE, QuantSpec(3)).packed(3, summed_axis(name)),
    ]
    both = stack(layers)
    assert both is not None
    for packed in (layers[0], both.of_layer(0)):
        for number, tile in enumerate(tiles(packed, 5)):
            expected = along[:, 3 * number : 3 * number + 5]
            same_bits(tile, np.ascontiguousarray(expected if name == "a/kernel" else expected.T))
    if name != "a/kernel":
        ids = np.array([[0, 23, 5], [7, 7, 1]])
        same_bits(jax.jit(PackedTensor.rows)(layers[0], jnp.asarray(ids)), whole[ids])
