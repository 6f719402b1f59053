"""A quantized tensor: codes, and the grid that they count on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.sizes import is_sparse


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


@jax.jit
def zero_where_false(x: Shaped[Any, "*shape"], mask: Bool[Any, "*shape"]) -> jax.Array:
    """Exact zeros, never -0, where the mask is False."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def stored_offset(q: QTensor) -> np.ndarray:
    """The offset in the smallest type that holds it: codes of zero mostly fit one byte."""
    offset = np.asarray(q.offset)
    if offset.dtype.kind == "f":
        return offset
    fits = (t for t in (np.int8, np.int16) if (offset == offset.astype(t)).all())
    return offset.astype(next(fits, np.int32))


def is_dense(x: QTensor | Any, mask: np.ndarray | None) -> bool:
    """Whether the tensor is stored with a code (or a float) for every weight: where nothing is pruned, and
    where that is smaller than a bitmap and zero is a code."""
    if mask is None:
        return True
    bits, nonzeros = 32, int(mask.sum())
    if isinstance(x, QTensor):
        offset, bits = np.asarray(x.offset), x.spec.bits
        if x.spec.zero == "float" or (offset < 0).any() or (offset >= 2**bits).any():
            return False
    return not is_sparse(mask.size, nonzeros, bits)
