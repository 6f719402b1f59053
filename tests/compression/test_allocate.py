"""Bytes shared out among tensors, against every possible choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.compression.allocate import Option, allocate
from tlc_jax.core.errors import UserError

TENSORS = st.lists(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0, 10)), min_size=1, max_size=4), min_size=1, max_size=4
)


def least(tensors: list, budget: float) -> float:
    """By trying everything."""
    return min(
        (sum(d for _, d in own) for own in itertools.product(*tensors) if sum(b for b, _ in own) <= budget),
        default=float("inf"),
    )


@given(TENSORS, st.integers(0, 160))
def test_the_least_damage_there_is(tensors: list, budget: int) -> None:
    options = {
        f"t{i}": [Option(*pair, what=j) for j, pair in enumerate(own)] for i, own in enumerate(tensors)
    }
    smallest = sum(min(size for size, _ in own) for own in tensors)
    if smallest > budget:
        with pytest.raises(UserError, match=f"it would be {smallest:,}"):
            allocate(options, budget)
        return
    found = allocate(options, budget)
    assert found.keys() == options.keys()
    assert all(found[name] in own for name, own in options.items())
    assert sum(option.size for option in found.values()) <= budget
    damage = sum(option.damage for option in found.values())
    assert damage == pytest.approx(least(tensors, budget), abs=1e-9)


def test_a_budget_of_many_bytes_is_shared_out_nearly_as_well() -> None:
    """At most a unit a tensor is lost to rounding."""
    rng = np.random.default_rng(0)
    tensors = [
        [(int(size), float(1e7 / size * scale)) for size in rng.integers(1e5, 1e7, 6)]
        for scale in rng.exponential(size=5)
    ]
    budget = int(sum(np.mean([size for size, _ in own]) for own in tensors))
    options = {str(i): [Option(*pair, what=None) for pair in own] for i, own in enumerate(tensors)}
    found = allocate(options, budget)
    assert sum(option.size for option in found.values()) <= budget
    damage = sum(option.damage for option in found.values())
    assert least(tensors, budget) <= damage + 1e-9 <= least(tensors, budget - 5 * budget // 2**14) + 2e-9


def test_bytes_go_where_they_save_most() -> None:
    options = {
        "sensitive": [Option(10, 8.0, "4"), Option(20, 1.0, "8")],
        "patient": [Option(10, 2.0, "4"), Option(20, 1.0, "8")],
    }
    assert {name: option.what for name, option in allocate(options, 30).items()} == {
        "sensitive": "8",
        "patient": "4",
    }
    assert sum(option.size for option in allocate(options, 40).values()) == 40
