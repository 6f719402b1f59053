"""Rules of single tensors for a byte budget: other bits, granularities and sparsities, and their bytes."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np

from tlc_jax.compression.quantize import block_shape, row_length
from tlc_jax.compression.select import UNDIVIDED
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core import sizes
from tlc_jax.recipes.sensitivity import GRANULARITIES, RANGE

VECTOR_BITS = 8  # vectors are few: fewer bits would save nothing
Rules = dict[str, Rule]


def granularities_of(name: str, shape: tuple[int, ...], granularity: str) -> dict[str, None]:
    """The granularities that differ for a tensor, its own first: groups divide its rows, or are rows."""
    divide = (g for g in GRANULARITIES if not (size := group_size(g)) or not row_length(name, shape) % size)
    return dict.fromkeys((granularity, *divide))


def group_size(granularity: str) -> int | None:
    return QuantSpec(granularity=granularity).group_size


def with_bits(name: str, rule: Rule, bits: int, sparsity: float | None = None, granularity: str = "") -> Rule:
    """The rule of one tensor with other bits, another sparsity and, if one is given, another granularity."""
    spec, why = rule.quant and dataclasses.replace(rule.quant, bits=bits, range=RANGE), rule.why
    if spec and granularity:
        spec = dataclasses.replace(spec, granularity=granularity)
        why = "; ".join(part for part in why.split("; ") if part != UNDIVIDED)
    return dataclasses.replace(rule, pattern=re.escape(name), quant=spec, sparsity=sparsity, why=why)


def kept_weights(x: Any, mask: Any) -> int:
    return x.size if mask is None else int(np.sum(mask))


def share_pruned(mask: Any) -> float:
    """The share of zeros, without the last weight: a rule cannot prune all of a tensor."""
    return min(float(np.mean(~mask)), 1 - 1 / mask.size) if mask.size else 0.0


def expected_bytes(name: str, x: Any, rule: Rule, kept: int) -> int:
    """Bytes of a tensor of which `kept` weights are not pruned, before it is quantized."""
    if rule.quant is None or x.ndim == 0 or x.size == 0:
        return x.size * x.dtype.itemsize if kept == x.size else sizes.bitmap_bytes(x.size, kept, 32)
    blocks = x.size // math.prod(block_shape(name, x.shape, rule.quant))
    bits, zero = rule.quant.bits, rule.quant.zero
    number, code = 2 if rule.quant.range_dtype == "bfloat16" else 4, 1 if bits < 8 else 2
    zeros = {"nudged": blocks * code, "float": blocks * number, "symmetric": code}[zero]
    # a range with zero='float' has no code that is zero
    sparse = kept < x.size and (zero == "float" or sizes.is_sparse(x.size, kept, bits))
    return sizes.weight_bytes(x.size, kept, bits, not sparse) + blocks * number + zeros
