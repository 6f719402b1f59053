"""Units that structured pruning removes: attention heads and feed-forward units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class UnitKind:
    """Units of which each layer of a stack keeps the same number.

    `axes` has, for each parameter [layers, ...] that is cut, the axis along which the units are; a unit is
    `size` neighbours on it. `reader` is the one of them that multiplies what the units compute: where its
    rows of a unit are zero, the unit has no effect. `field` is the field of the model's config that counts
    the units, and `layers` the number of layers that have their own.
    """

    name: str
    field: str
    count: int
    size: int
    layers: int
    axes: Mapping[str, int]
    reader: str
