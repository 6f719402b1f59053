"""Writes compression.npz: what torch, qwix and compressed-tensors make of the same weights.

python tests/golden/make_compression.py        where torch, qwix and compressed-tensors>=0.18 are installed
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

BITS = tuple(range(1, 9))
COLUMNS = (37, 96, 100)
SPARSITIES = (0.15, 0.45, 0.9)
STRATEGIES = {"tensor": "tensor", "row": "channel", "group:16": "group"}


def weights(columns: int) -> np.ndarray:
    """[24, columns], a few far out, as trained weights are; no two magnitudes are equal."""
    return np.random.default_rng(columns).standard_t(3, size=(24, columns)).astype(np.float32)


def codes(columns: int, bits: int) -> np.ndarray:
    """[24, columns], every code there is."""
    return np.random.default_rng(bits).integers(0, 2**bits, (24, columns)).astype(np.uint8)


def grid(x: np.ndarray, bits: int) -> tuple[np.float32, int]:
    """(delta, code of zero) of the nudged min/max range of a tensor, in float32."""
    delta = (x.max() - x.min()) / np.float32(2**bits - 1)
    return np.float32(delta), int(np.rint(-x.min() / delta))


def torch_results() -> dict[str, np.ndarray]:
    import torch
    from torch.nn.utils import prune

    found = {}
    x = weights(96)
    for bits in BITS[1:]:
        delta, zero = grid(x, bits)
        fake = torch.fake_quantize_per_tensor_affine(torch.tensor(x), float(delta), zero, 0, 2**bits - 1)
        found[f"torch_fake_{bits}"] = fake.numpy()
    for sparsity in SPARSITIES:
        layers = [torch.nn.Linear(columns, 24, bias=False) for columns in COLUMNS]
        for layer, columns in zip(layers, COLUMNS, strict=True):
            layer.weight.data = torch.tensor(weights(columns))
        prune.global_unstructured(
            [(layer, "weight") for layer in layers], prune.L1Unstructured, amount=sparsity
        )
        for layer, columns in zip(layers, COLUMNS, strict=True):
            found[f"torch_mask_{sparsity}_{columns}"] = layer.weight_mask.numpy().astype(bool)
    return found


def qwix_results() -> dict[str, np.ndarray]:
    import jax.numpy as jnp
    import qwix

    found = {}
    for bits, kind in ((4, jnp.int4), (8, jnp.int8)):
        q = qwix.quantize(jnp.asarray(weights(96)), kind, calibration_method="minmax")
        found[f"qwix_codes_{bits}"] = np.asarray(q.qvalue.astype(jnp.int32)) + 2 ** (bits - 1)
        found[f"qwix_scale_{bits}"] = np.asarray(q.scale).reshape(-1)
    return found


def compressed_tensors_results(packed: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Its packing of `codes`, and its decoding of the modules in `packed`: '<bits>_<granularity>' ->
    arrays."""
    import torch
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    found = {}
    for bits in BITS:
        for columns in COLUMNS:
            shifted = codes(columns, bits).astype(np.int16) - 2 ** (bits - 1)
            own = pack_to_int32(torch.tensor(shifted.astype(np.int8)), bits)
            found[f"ct_packed_{bits}_{columns}"] = own.numpy()
    for name, arrays in packed.items():
        bits, granularity = name.split("_")
        args = {"num_bits": int(bits), "symmetric": False, "strategy": STRATEGIES[granularity]}
        if granularity.startswith("group"):
            args["group_size"] = int(granularity.partition(":")[2])
        scheme = QuantizationScheme(targets=["x"], weights=QuantizationArgs(type="int", **args))
        state = {part: torch.tensor(array) for part, array in arrays.items()}
        found[f"ct_decoded_{name}"] = PackedQuantizationCompressor.decompress(state, scheme)["weight"].numpy()
    return found


def main() -> None:
    here = Path(__file__).parent
    stored = np.load(here / "compression_packed.npz")
    packed: dict[str, dict[str, np.ndarray]] = {}
    for key in stored.files:
        name, part = key.split("/")
        packed.setdefault(name, {})[part] = stored[key]
    found = {**torch_results(), **qwix_results(), **compressed_tensors_results(packed)}
    np.savez_compressed(here / "compression.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
