"""Which of its options each tensor gets, so that the damage of all is least and their bytes fit a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlc_jax.core.errors import UserError

_UNITS = 1 << 14  # that what can be shared out is counted in


@dataclass(frozen=True)
class Option:
    """One way to compress a tensor; damages of tensors add up."""

    size: int
    """Bytes."""
    damage: float
    what: Any


def allocate(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Option]:
    """An option of each tensor, together within `budget` bytes, of the least damage (the multiple-choice
    knapsack problem, by dynamic programming).

    Every tensor has its smallest option for sure; what more it takes is counted in units of 1 / 16,384 of the
    rest of the budget, and rounded up. Exact where such a unit is a byte. UserError if even the smallest
    options do not fit."""
    smallest = {name: min(option.size for option in own) for name, own in options.items()}
    room = budget - sum(smallest.values())
    if room < 0:
        raise UserError(
            f"{budget:,} bytes are too few: with the fewest bits and weights it would be {budget - room:,}"
        )
    unit = max(1, -(-room // _UNITS))
    extra = {name: [-(-(o.size - smallest[name]) // unit) for o in own] for name, own in options.items()}
    least = np.zeros(room // unit + 1)  # damage of the tensors so far, by the units that they may take
    choices = {}
    for name, own in options.items():
        tried = np.full((len(own), least.size), np.inf)
        for row, units, option in zip(tried, extra[name], own, strict=True):
            if units < least.size:
                row[units:] = least[: least.size - units] + option.damage
        choices[name] = tried.argmin(axis=0)
        least = tried.min(axis=0)
    chosen, left = {}, least.size - 1
    for name in reversed(list(options)):
        number = int(choices[name][left])
        chosen[name], left = options[name][number], left - extra[name][number]
    return {name: chosen[name] for name in options}
