"""Quantization of large numpy arrays in pieces of whole rows or groups, which takes little extra memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

PIECE = 1 << 22  # weights
Codes = tuple[Any, Any, Any]
"""Codes, delta and offset, as QuantizedTensor has them."""


def in_pieces(
    quantize: Callable[[Any, Any], Codes],
    x: Float[np.ndarray, "*shape"],
    mask: Bool[Any, "*shape"] | None,
    block: tuple[int, ...],
) -> Codes:
    """The result of quantize(x, mask), whose blocks are independent of each other, computed piece by piece
    along an axis on which a block has the extent 1; at once where there is none, or where x is small."""
    axis = next((axis for axis, extent in enumerate(block) if extent == 1 < x.shape[axis]), None)
    if axis is None or x.size <= PIECE:
        return quantize(x, mask)
    width = max(1, PIECE * x.shape[axis] // x.size)
    result: Codes | None = None
    for start in range(0, x.shape[axis], width):
        start = min(start, x.shape[axis] - width)  # all pieces have one shape: compiled once
        index = (slice(None),) * axis + (slice(start, start + width),)
        piece = tuple(np.asarray(part) for part in quantize(x[index], None if mask is None else mask[index]))
        if result is None:
            result = tuple(_empty(part, axis, x.shape[axis]) for part in piece)  # type: ignore[assignment]
        for whole, part in zip(result, piece, strict=True):  # type: ignore[arg-type]
            whole[index] = part
    assert result is not None
    return result


def _empty(piece: np.ndarray, axis: int, size: int) -> np.ndarray:
    """An array for the whole of which `piece` is a part."""
    return np.empty((*piece.shape[:axis], size, *piece.shape[axis + 1 :]), piece.dtype)
