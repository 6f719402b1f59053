"""Quantized tensors in the `pack-quantized` format of the compressed-tensors library (0.18 and newer), which
vLLM and transformers read, and back.

Of a linear layer or an embedding X with quantized weights [rows, columns]:

    X.weight_packed      int32 [rows, ceil(columns * bits / 32)]; each row a stream of codes (packing.py)
    X.weight_scale       float32 [1], [rows, 1] or [rows, groups]: delta
    X.weight_zero_point  the code of zero minus 2 ** (bits - 1); int8 [1], or int32 and packed as the
                         weights are, but along the rows
    X.weight_shape       int64 [2]

and the others as float32. config.json says in `quantization_config` which layers have how many bits. The
format has no place for masks: zeros are stored as codes of zero."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

from tlc_jax.artifacts.packing import pack_codes, unpack_codes
from tlc_jax.core.errors import UserError
from tlc_jax.core.qtensor import QTensor
from tlc_jax.core.quantspec import QuantSpec
from tlc_jax.core.stacked import Tensors

METHOD = "compressed-tensors"
_WEIGHT = ".weight"
_PARTS = ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape")


def to_compressed_tensors(tensors: Tensors, values: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """(arrays to store, `quantization_config`) of tensors by torch's names and in torch's layout. Matrices of
    modules are stored as codes; the others as float32, which `values` holds of every tensor."""
    arrays: Tensors = {}
    schemes: dict[QuantSpec, list[str]] = {}
    for name, x in tensors.items():
        if not (isinstance(x, QTensor) and name.endswith(_WEIGHT) and x.codes.ndim == 2):
            arrays[name] = np.asarray(values[name])
            continue
        module = name.removesuffix(_WEIGHT)
        schemes.setdefault(x.spec, []).append(module)
        arrays |= {f"{module}.{part}": array for part, array in _module(name, x).items()}
    return arrays, _quantization_config(schemes)


def from_compressed_tensors(arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Tensors:
    """What `to_compressed_tensors` was given: QTensors (whose range is not known any more) and arrays."""
    if config.get("quant_method") != METHOD or config.get("format") != "pack-quantized":
        raise UserError(f"only {METHOD} in the format pack-quantized can be read, not {dict(config)}")
    tensors: Tensors = {}
    for name, x in arrays.items():
        module, _, part = name.rpartition(".")
        if part == "weight_packed":
            own = {each: arrays[f"{module}.{each}"] for each in _PARTS}
            tensors[f"{module}{_WEIGHT}"] = _tensor(own, _scheme_of(module, config))
        elif part not in _PARTS:
            tensors[name] = x
    return tensors


def _module(name: str, q: QTensor) -> dict[str, np.ndarray]:
    bits, zero = q.spec.bits, np.asarray(q.offset)
    if q.spec.zero != "nudged" or zero.min() < 0 or zero.max() >= 2**bits:
        raise UserError(
            f"zero is no code of {name}, as {METHOD} wants it: compress with --zero nudged and min/max"
        )
    codes = np.asarray(q.codes)
    if q.mask is not None:  # a pruned weight may have any code: here it needs that of zero
        neighbours = (size // count for size, count in zip(codes.shape, zero.shape, strict=True))
        everywhere = np.kron(zero, np.ones(tuple(neighbours), np.int32))
        codes = np.where(np.asarray(q.mask), codes, everywhere).astype(np.uint8)
    shifted, scale = zero - (1 << (bits - 1)), np.asarray(q.delta)
    if q.spec.granularity == "tensor":
        zero_point, scale = shifted.astype(np.int8).reshape(1), scale.reshape(1)
    else:  # one number a row and group, packed along the rows
        zero_point = np.ascontiguousarray(pack_rows(zero.astype(np.uint8).T, bits).T)
    return {
        "weight_packed": pack_rows(codes, bits),
        "weight_scale": np.ascontiguousarray(scale),
        "weight_zero_point": zero_point,
        "weight_shape": np.array(q.codes.shape, np.int64),
    }


def _tensor(parts: Mapping[str, np.ndarray], scheme: Mapping[str, Any]) -> QTensor:
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
    return QTensor(codes, scale, zero, None, QuantSpec(bits, granularity))


def pack_rows(codes: UInt8[np.ndarray, "rows columns"], bits: int) -> Int32[np.ndarray, "rows words"]:
    """Each row a stream of its own, filled up to 32 bits."""
    rows, columns = codes.shape
    whole = -(-columns // 32) * 32  # 32 codes end between words
    padded = np.zeros((rows, whole), np.uint8)
    padded[:, :columns] = codes
    words = pack_codes(padded.reshape(-1), bits).view("<i4").reshape(rows, whole * bits // 32)
    return np.ascontiguousarray(words[:, : -(-columns * bits // 32)])


def unpack_rows(
    words: Int[np.ndarray, "rows words"], bits: int, columns: int
) -> UInt8[np.ndarray, "rows columns"]:
    rows, whole = words.shape[0], -(-columns // 32) * 32
    padded = np.zeros((rows, whole * bits // 32), "<i4")
    padded[:, : words.shape[1]] = words
    codes = unpack_codes(padded.reshape(-1).view(np.uint8), bits, rows * whole)
    return np.ascontiguousarray(codes.reshape(rows, whole)[:, :columns])


def _quantization_config(schemes: Mapping[QuantSpec, list[str]]) -> dict[str, Any]:
    groups = {}
    for number, (spec, modules) in enumerate(schemes.items()):
        strategy = {"tensor": "tensor", "row": "channel"}.get(spec.granularity, "group")
        weights: dict[str, Any] = {
            "num_bits": spec.bits,
            "type": "int",
            "symmetric": False,
            "strategy": strategy,
            "dynamic": False,
        }
        if strategy == "group":
            weights["group_size"] = spec.group_size
        groups[f"group_{number}"] = {
            "targets": sorted(modules),
            "weights": weights,
            "format": "pack-quantized",
        }
    return {
        "quant_method": METHOD,
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": [],
    }


def _scheme_of(module: str, config: Mapping[str, Any]) -> dict[str, Any]:
    for group in config["config_groups"].values():
        if module in group["targets"]:
            return group["weights"]
    raise UserError(f"no group of the quantization_config names {module}: {json.dumps(config)[:200]}")
