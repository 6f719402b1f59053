"""Compression against other libraries: what torch, qwix and compressed-tensors said is in a golden file.

tests/golden/make_compression.py made it; `python -m tests.compression.test_oracles` writes what it decodes.
"""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.exports import from_compressed_tensors, unpack_rows
from tests.golden.make_compression import BITS, COLUMNS, SPARSITIES, STRATEGIES, codes, weights
from tlc_jax.artifacts.compressed_tensors import pack_rows, to_compressed_tensors
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec

FOLDER = Path(__file__).parent.parent / "golden"
GOLDEN = dict(np.load(FOLDER / "compression.npz")) if (FOLDER / "compression.npz").exists() else {}


def quantized(bits: int, granularity: str = "tensor") -> QuantizedTensor:
    q = quantize_tensor("x.weight", jnp.asarray(weights(96)), QuantSpec(bits, granularity))
    assert isinstance(q, QuantizedTensor)
    return q


def packed(bits: int, granularity: str) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of a module x, by their last names, and the `quantization_config`."""
    found = to_compressed_tensors({"x.weight": quantized(bits, granularity)})
    return {name.removeprefix("x."): array for name, array in found.arrays.items()}, found.config


@pytest.mark.parametrize("bits", BITS[1:])
def test_values_are_those_of_torchs_fake_quantize(bits: int) -> None:
    np.testing.assert_array_equal(quantized(bits).dense(), GOLDEN[f"torch_fake_{bits}"])


@pytest.mark.parametrize("bits", [4, 8])
def test_codes_and_delta_are_qwixs(bits: int) -> None:
    q = quantized(bits)
    np.testing.assert_array_equal(q.codes, GOLDEN[f"qwix_codes_{bits}"])
    np.testing.assert_array_equal(np.asarray(q.delta).reshape(-1), GOLDEN[f"qwix_scale_{bits}"])


@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_masks_are_those_of_torchs_global_pruning(sparsity: float) -> None:
    masks = magnitude_masks({str(columns): weights(columns) for columns in COLUMNS}, sparsity)
    for columns in COLUMNS:
        np.testing.assert_array_equal(masks[str(columns)], GOLDEN[f"torch_mask_{sparsity}_{columns}"])


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("bits", BITS)
def test_packed_rows_are_those_of_compressed_tensors(bits: int, columns: int) -> None:
    own = codes(columns, bits)
    words = pack_rows(own, bits)
    np.testing.assert_array_equal(words, GOLDEN[f"ct_packed_{bits}_{columns}"])
    np.testing.assert_array_equal(unpack_rows(words, bits, columns), own)


@pytest.mark.parametrize("granularity", STRATEGIES)
@pytest.mark.parametrize("bits", BITS)
def test_compressed_tensors_decodes_our_values(bits: int, granularity: str) -> None:
    """Exactly; and what it would read comes back to us as the same values."""
    arrays, config = packed(bits, granularity)
    stored = np.load(FOLDER / "compression_packed.npz")
    for part, array in arrays.items():
        np.testing.assert_array_equal(array, stored[f"{bits}_{granularity}/{part}"])
    ours = quantized(bits, granularity).dense()
    np.testing.assert_array_equal(ours, GOLDEN[f"ct_decoded_{bits}_{granularity}"])
    back = from_compressed_tensors({f"x.{part}": array for part, array in arrays.items()}, config)
    np.testing.assert_array_equal(back["x.weight"].dense(), ours)


if __name__ == "__main__":
    np.savez_compressed(
        FOLDER / "compression_packed.npz",
        **{  # type: ignore[arg-type]
            f"{bits}_{granularity}/{part}": array
            for bits in BITS
            for granularity in STRATEGIES
            for part, array in packed(bits, granularity)[0].items()
        },
    )
