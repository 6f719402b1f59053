"""Readers of exported folders, for tests: the inverses of artifacts/compressed_tensors.py and pegasus.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from tlc_jax.artifacts.model_folder import transposed
from tlc_jax.compression.packing import unpack_codes
from tlc_jax.compression.plain import plain
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.stacked import join
from tlc_jax.core.tree import Params

_PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")


def from_compressed_tensors(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, Leaf]:
    """What `to_compressed_tensors` was called with; how ranges were chosen is not known any more."""
    assert (config["quant_method"], config["format"]) == ("compressed-tensors", "pack-quantized")
    (group,) = config["config_groups"].values()
    tensors: dict[str, Leaf] = {}
    for name, x in arrays.items():
        module, _, part = name.rpartition(".")
        if part == "weight_packed":
            parts = {each: arrays[f"{module}.{each}"] for each in _PARTS}
            assert module in group["targets"]
            tensors[f"{module}.weight"] = _tensor(parts, group["weights"])
        elif part not in _PARTS:
            tensors[name] = plain(x)
    return tensors


def _tensor(parts: Mapping[str, np.ndarray], scheme: Mapping[str, Any]) -> QuantizedTensor:
    bits, shape = scheme["num_bits"], tuple(int(size) for size in parts["weight_shape"])
    granularity = {"tensor": "tensor", "channel": "row"}.get(
        scheme["strategy"], f"group:{scheme.get('group_size')}"
    )
    scale = parts["weight_scale"].astype(np.float32)
    if granularity == "tensor":
        scale = scale.reshape(1, 1)
        zero = parts["weight_zero_point"].reshape(1, 1).astype(np.int32) + (1 << (bits - 1))
    else:
        zero = unpack_rows(parts["weight_zero_point"].T, bits, shape[0]).T.astype(np.int32)
    codes = unpack_rows(parts["weight_packed"], bits, shape[1])
    return QuantizedTensor(codes, scale, zero, None, QuantSpec(bits, granularity))


def unpack_rows(
    words: Int[np.ndarray, "rows words"], bits: int, columns: int
) -> UInt8[np.ndarray, "rows columns"]:
    rows, whole = words.shape[0], -(-columns // 32) * 32
    padded = np.zeros((rows, whole * bits // 32), "<i4")
    padded[:, : words.shape[1]] = words
    codes = unpack_codes(padded.reshape(-1).view(np.uint8), bits, rows * whole)
    return np.ascontiguousarray(codes.reshape(rows, whole)[:, :columns])


def params_from_pegasus(weights: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Params:
    """Our parameters of what `pegasus_weights` or `tied` made; `names` are those of the model family."""
    embedding = "shared/token_embedding"
    names = {ours: theirs for ours, theirs in names.items() if ours != embedding}
    output = "lm_head.weight" if "lm_head.weight" in weights else "model.shared.weight"
    biases = {name.replace(".weight", ".bias") for name in names.values() if "_attn." in name}
    for name in weights.keys() - {*names.values(), output}:
        assert name in biases or re.search("bias|shared|embed_(tokens|positions)", name), name
        assert not (name.endswith("bias") and np.any(weights[name])), f"our model has no {name}"
    tensors = {ours: transposed(ours, weights[theirs]) for ours, theirs in names.items()}
    return join({**tensors, embedding: weights[output]})
