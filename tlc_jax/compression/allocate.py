"""The choice of one option for each tensor, so that their total damage is least and their bytes fit a
budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlc_jax.core.errors import UserError

_UNITS = 1 << 14  # of the bytes that are left to distribute


@dataclass(frozen=True)
class Option:
    """One way to compress a tensor; damages of tensors add up."""

    size: int
    """Bytes."""
    damage: float
    what: Any


def allocate(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Option]:
    """The options of the least total damage that fit in `budget` bytes, one for each tensor (the
    multiple-choice knapsack problem, by dynamic programming).

    Every tensor gets at least its smallest option; bytes beyond that are counted in units of 1 / 16,384 of
    the rest of the budget, rounded up. The result is exact where a unit is one byte. UserError if even the
    smallest options do not fit."""
    options = {name: _undominated(choices) for name, choices in options.items()}
    smallest = {name: min(option.size for option in choices) for name, choices in options.items()}
    room = budget - sum(smallest.values())
    if room < 0:
        raise UserError(
            f"{budget:,} bytes are too few: with the fewest bits and weights it would be {budget - room:,}"
        )
    unit = max(1, -(-room // _UNITS))
    extra = {
        name: [-(-(option.size - smallest[name]) // unit) for option in choices]
        for name, choices in options.items()
    }
    least = np.zeros(room // unit + 1)  # damage of the tensors so far, by the units that they may take
    best = {}  # of each tensor, by the same units: the number of its option
    for name, choices in options.items():
        tried = np.full((len(choices), least.size), np.inf)
        for row, units, option in zip(tried, extra[name], choices, strict=True):
            if units < least.size:
                row[units:] = least[: least.size - units] + option.damage
        best[name] = tried.argmin(axis=0)
        least = tried.min(axis=0)
    chosen, left = {}, least.size - 1
    for name in reversed(list(options)):
        number = int(best[name][left])
        chosen[name], left = options[name][number], left - extra[name][number]
    return {name: chosen[name] for name in options}


def _undominated(choices: Sequence[Option]) -> list[Option]:
    """The options that do less damage than all smaller ones."""
    kept: list[Option] = []
    for option in sorted(choices, key=lambda option: (option.size, option.damage)):
        if not kept or option.damage < kept[-1].damage:
            kept.append(option)
    return kept
