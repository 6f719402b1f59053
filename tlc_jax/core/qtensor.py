"""A quantized tensor: codes, and the grid that they count on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QTensor:
    """value = offset + delta * code. A pytree: of arrays, or of their shapes or shardings.

    `codes` has the tensor's shape, uint8, each below 2 ** bits. `delta` and `offset` are float32 and
    broadcast against it: one number per tensor, so one per layer of a stack. `mask`, if there is one,
    is boolean with the tensor's shape: False where the value is an exact zero, whatever its code.
    """

    codes: Any
    delta: Any
    offset: Any
    mask: Any = None
