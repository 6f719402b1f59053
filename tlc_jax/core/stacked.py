"""Which parameters are stacks of layers: "per tensor" in the paper means per weight matrix of one layer."""

from __future__ import annotations

import re

_STACKED = re.compile(r"(encoder|decoder)/layers/.*")


def is_stacked(path: str) -> bool:
    """Whether the leading axis of the parameter at `path` counts layers, each slice a tensor of its own."""
    return _STACKED.fullmatch(path) is not None


def tensor_axes(path: str, ndim: int) -> tuple[int, ...]:
    """The axes over which one tensor of the paper extends: all, or all but the layers'."""
    return tuple(range(1 if is_stacked(path) else 0, ndim))
