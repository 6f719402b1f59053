"""Large arrays of numpy in pieces that are whole rows or groups, so that little memory is taken besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

PIECE = 1 << 22  # weights
Codes = tuple[Any, Any, Any]
"""Codes, delta and offset, as QTensor has them."""


def in_pieces(
    quantize: Callable[[Any, Any], Codes],
    x: Float[np.ndarray, "*shape"],
    mask: Bool[Any, "*shape"] | None,
    block: tuple[int, ...],
) -> Codes:
    """What `quantize` makes of x and its mask, whose blocks know nothing of each other, piece by piece along
    an axis on which a block is 1 wide; at once where there is none, or where x is small."""
    axis = next((axis for axis, own in enumerate(block) if own == 1 < x.shape[axis]), None)
    if axis is None or x.size <= PIECE:
        return quantize(x, mask)
    width = max(1, PIECE * x.shape[axis] // x.size)
    found: Codes | None = None
    for start in range(0, x.shape[axis], width):
        start = min(start, x.shape[axis] - width)  # all pieces are of one shape: it is compiled once
        place = (slice(None),) * axis + (slice(start, start + width),)
        piece = tuple(np.asarray(each) for each in quantize(x[place], None if mask is None else mask[place]))
        if found is None:
            found = tuple(_room(each, axis, x.shape[axis]) for each in piece)  # type: ignore[assignment]
        for whole, each in zip(found, piece, strict=True):  # type: ignore[arg-type]
            whole[place] = each
    assert found is not None
    return found


def _room(piece: np.ndarray, axis: int, size: int) -> np.ndarray:
    return np.empty((*piece.shape[:axis], size, *piece.shape[axis + 1 :]), piece.dtype)
