"""How large a compressed model is, in bytes: the paper's measure and that of the format, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlc_jax.core import sizes
from tlc_jax.core.qtensor import QTensor, is_dense, stored_offset
from tlc_jax.core.stacked import Tensors


@dataclass(frozen=True)
class Account:
    """Of one tensor or of a whole model; `paper` is bytes without ranges and places of zeros, `theoretical`
    is what the format writes, without names, `float32` what the same weights take uncompressed."""

    weights: int = 0
    nonzeros: int = 0
    paper: float = 0.0
    theoretical: int = 0
    float32: int = 0

    def __add__(self, other: Account) -> Account:
        return Account(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def account(tensors: Tensors, masks: Mapping[str, Any]) -> Account:
    """Of QTensors, and of floats with their masks."""
    return sum((account_tensor(x, masks.get(name)) for name, x in tensors.items()), Account())


def account_tensor(x: Any, mask: Any = None) -> Account:
    """Of a QTensor, or of a float tensor and its mask, if it has one."""
    if not isinstance(x, QTensor) and np.asarray(x).dtype.kind != "f":  # no weights
        return Account(theoretical=x.nbytes, float32=x.nbytes)
    bits, ranges, size = 32, 0, x.codes.size if isinstance(x, QTensor) else x.size
    if isinstance(x, QTensor):
        bits, mask = x.spec.bits, x.mask
        ranges = x.delta.nbytes + stored_offset(x).nbytes
    mask = None if mask is None else np.asarray(mask)
    kept = size if mask is None else int(mask.sum())
    return Account(
        weights=size,
        nonzeros=kept,
        paper=sizes.paper_bytes(kept, bits),
        theoretical=sizes.weight_bytes(size, kept, bits, is_dense(x, mask)) + ranges,
        float32=4 * size,
    )
