"""Conversion of quantized tensors to the `pack-quantized` format of the compressed-tensors library
(0.18 and newer), which vLLM and transformers read.

A linear layer or an embedding X with quantized weights [rows, columns] is stored as

    X.weight_packed      int32 [rows, ceil(columns * bits / 32)]; each row a stream of codes (packing.py)
    X.weight_scale       float32 [1], [rows, 1] or [rows, groups]: delta
    X.weight_zero_point  the code of zero minus 2 ** (bits - 1); int8 [1], or int32 and packed as the
                         weights are, but along the rows
    X.weight_shape       int64 [2]

and everything else as float32. The `quantization_config` in config.json says which layers have how many bits;
with `dequantize` transformers makes dense weights of them while it loads, without which it can load neither
packed zero points nor embeddings. It then reads one scheme for a whole model, so one is written: the bits and
the granularity that take the fewest bytes. Matrices with fewer bits or larger blocks are converted to it
exactly, the others are written as float32. The format has no masks: zeros are stored as codes of zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from tlc_jax.compression.bit_planes import spread
from tlc_jax.compression.packing import pack_codes
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.stacked import Tensors

METHOD = "compressed-tensors"
_WEIGHT = ".weight"
_ROWS_OF_A_WORD = 8  # of 4-bit zero points: the library makes of one word a tensor that torch rejects


@dataclass(frozen=True)
class Packed:
    """The `arrays` to store and their `config`. `dense` has the quantized tensors that are stored as float32,
    each with the reason, `widened` the names of those stored with more bits than they have."""

    arrays: Tensors
    config: dict[str, Any]
    dense: dict[str, str]
    widened: list[str]


def to_compressed_tensors(tensors: Mapping[str, Leaf]) -> Packed:
    """Leaves by torch's names and in torch's layout. Matrices of modules are stored as codes where the format
    can hold them, everything else as dense arrays. UserError where it can hold none."""
    quantized = {name: grid for name, leaf in tensors.items() if (grid := leaf.on_grid()) is not None}
    matrices = {name: q for name, q in quantized.items() if name.endswith(_WEIGHT) and q.codes.ndim == 2}
    scheme = _smallest_scheme(matrices)
    dense = dict.fromkeys(quantized.keys() - matrices.keys(), "no matrix whose name ends in .weight")
    arrays: Tensors = {}
    modules: list[str] = []
    for name, leaf in tensors.items():
        stopping.check()
        problem = "" if name not in matrices else problem_with(matrices[name], scheme)
        if name not in matrices or problem:
            arrays[name] = np.asarray(leaf.dense())
            dense |= {name: problem} if problem else {}
            continue
        modules.append(name.removesuffix(_WEIGHT))
        arrays |= {f"{modules[-1]}.{part}": array for part, array in _module(matrices[name], scheme).items()}
    if not modules:
        reasons = "; ".join(sorted({dense[name] for name in matrices}))
        reasons = reasons or "none of its tensors named *.weight holds codes"
        raise UserError(
            f"no matrix can be stored as codes of {METHOD} ({reasons}): compress it again with --granularity "
            "row --zero nudged and 1 to 8 bits, or export it with --format huggingface"
        )
    widened = [name for name, q in matrices.items() if name not in dense and q.spec.bits < scheme.bits]
    return Packed(arrays, _quantization_config(scheme, modules), dense, widened)


def _smallest_scheme(matrices: Mapping[str, QuantizedTensor]) -> QuantSpec:
    """Bits and granularity, of those that are there, with which the fewest bytes are written."""

    def size(scheme: QuantSpec) -> int:
        return sum(
            4 * q.codes.size if problem_with(q, scheme) else q.codes.size * scheme.bits // 8
            for q in matrices.values()
        )

    bits = sorted({q.spec.bits for q in matrices.values()})
    granularities = sorted({q.spec.granularity for q in matrices.values()})
    schemes = [QuantSpec(b, granularity) for b in bits for granularity in granularities]
    return schemes[0] if len(schemes) == 1 else min(schemes, key=size, default=QuantSpec())


def problem_with(q: QuantizedTensor, scheme: QuantSpec) -> str:
    """The reason why codes of the scheme cannot represent a matrix exactly; empty if they can."""
    rows, blocks = q.codes.shape[0], _blocks(q, scheme)
    if q.spec.zero == "float":
        return "zero is no code: its range begins where it begins (--zero float)"
    if q.spec.bits > scheme.bits:
        return f"it has {q.spec.bits} bits, and most of the model {scheme.bits}"
    if not blocks or blocks[0] % q.delta.shape[0] or blocks[1] % q.delta.shape[1]:
        return f"its ranges ({q.spec.granularity}) are not those of most of the model ({scheme.granularity})"
    if scheme.bits == 4 and rows <= _ROWS_OF_A_WORD and blocks[1] > 1:
        return f"{METHOD} cannot read groups of at most {_ROWS_OF_A_WORD} rows at 4 bits"
    low, high = _extremes(q)
    if ((high - low) >= 2**scheme.bits).any():
        return "zero is no code: all weights of a block are far on one side of it"
    return ""


def _blocks(q: QuantizedTensor, scheme: QuantSpec) -> tuple[int, int] | None:
    """The number of ranges of a matrix in the scheme, down and across; None where groups do not divide a
    row."""
    rows, columns = q.codes.shape
    if scheme.granularity == "tensor":
        return 1, 1
    size = scheme.group_size or columns
    return None if columns % size else (rows, columns // size)


def _extremes(q: QuantizedTensor) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest multiple of delta in each block, zero included, as far as codes show
    it."""
    zero = np.asarray(q.offset)
    if ((zero >= 0) & (zero < 2**q.spec.bits)).all():  # nearly always: the whole range of codes fits
        return -zero, 2**q.spec.bits - 1 - zero
    codes = np.asarray(q.codes)
    if q.mask is not None:
        codes = np.where(np.asarray(q.mask), codes, spread(np.clip(zero, 0, 2**q.spec.bits - 1), codes.shape))
    (rows, columns), (down, across) = codes.shape, zero.shape
    pairs = codes.reshape(down, rows // down, across, columns // across)
    low, high = pairs.min(axis=(1, 3)) - zero, pairs.max(axis=(1, 3)) - zero
    return np.minimum(low, 0), np.maximum(high, 0)


def _module(q: QuantizedTensor, scheme: QuantSpec) -> dict[str, np.ndarray]:
    """The arrays of a matrix that the scheme represents exactly."""
    codes, zero, bits = np.asarray(q.codes), np.asarray(q.offset), scheme.bits
    low, high = _extremes(q)
    moved = np.clip(zero, -low, 2**bits - 1 - high)  # where zero is a code already, it stays so
    if (moved != zero).any():
        codes = (codes + spread(moved - zero, codes.shape)).astype(np.uint8)
    if q.mask is not None:  # a pruned weight may have any code; here it needs that of zero
        codes = np.where(np.asarray(q.mask), codes, spread(moved, codes.shape)).astype(np.uint8)
    scale = np.asarray(q.delta)
    if scheme.granularity == "tensor":
        zero_point, scale = (moved - (1 << (bits - 1))).astype(np.int8).reshape(1), scale.reshape(1)
    else:  # one number for each row and group, packed along the rows
        blocks = _blocks(q, scheme)
        assert blocks is not None
        scale, moved = spread(scale, blocks), spread(moved, blocks)
        zero_point = np.ascontiguousarray(pack_rows(moved.astype(np.uint8).T, bits).T)
    return {
        "weight_packed": pack_rows(codes, bits),
        "weight_scale": np.ascontiguousarray(scale),
        "weight_zero_point": zero_point,
        "weight_shape": np.array(q.codes.shape, np.int64),
    }


def pack_rows(codes: UInt8[np.ndarray, "rows columns"], bits: int) -> Int32[np.ndarray, "rows words"]:
    """Pack each row as a stream of its own, padded to 32 bits."""
    rows, columns = codes.shape
    whole = -(-columns // 32) * 32  # 32 codes end between words
    padded = np.zeros((rows, whole), np.uint8)
    padded[:, :columns] = codes
    words = pack_codes(padded.reshape(-1), bits).view("<i4").reshape(rows, whole * bits // 32)
    return np.ascontiguousarray(words[:, : -(-columns * bits // 32)])


def _quantization_config(scheme: QuantSpec, modules: list[str]) -> dict[str, Any]:
    strategy = {"tensor": "tensor", "row": "channel"}.get(scheme.granularity, "group")
    weights: dict[str, Any] = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": False,
        "strategy": strategy,
        "dynamic": False,
    }
    if strategy == "group":
        weights["group_size"] = scheme.group_size
    group = {"targets": sorted(modules), "weights": weights, "format": "pack-quantized"}
    return {
        "quant_method": METHOD,
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "dequantize": True,
        "config_groups": {"group_0": group},
        "ignore": [],
    }
