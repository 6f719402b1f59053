"""A quantized tensor: codes, and the grid that they count on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from tlc_jax.core.quantspec import QuantSpec


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QTensor:
    """A pytree: of arrays, or of their shapes or shardings.

    With zero 'float' a value is offset + delta * code, and offset is float32 (the paper's q_0); with zero
    'nudged' it is delta * (code - offset), and offset is int32 (the code of zero). `codes` has the tensor's
    shape, uint8, each below 2 ** bits. `delta`, float32, and `offset` have as many axes; one of their numbers
    holds for codes.shape[i] / delta.shape[i] neighbours along axis i. `mask`, if there is one, is boolean
    with the tensor's shape: False where the value is an exact zero, whatever its code."""

    codes: Any
    delta: Any
    offset: Any
    mask: Any = None
    spec: QuantSpec = field(default_factory=QuantSpec, metadata={"static": True})


def stored_offset(q: QTensor) -> np.ndarray:
    """The offset in the smallest type that holds it: codes of zero mostly fit one byte."""
    offset = np.asarray(q.offset)
    if offset.dtype.kind == "f":
        return offset
    fits = (t for t in (np.int8, np.int16) if (offset == offset.astype(t)).all())
    return offset.astype(next(fits, np.int32))
