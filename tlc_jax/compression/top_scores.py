"""Masks that keep the largest scores, exactly, as a traced function of arrays on any mesh.

A sort of all scores would take many times longer and move them between devices: the limit is found by
bisection over the bits of float32, and among equal scores the first go first, by bisection over positions.
Every pass only counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

Counted = dict[str, Array]


@dataclass(frozen=True)
class Groups:
    """Which scores are compared with each other: `of` has, for each stack of matrices by its path, the number
    of each matrix's group; -1 of one that is not pruned. Groups have `sizes` scores."""

    of: dict[str, tuple[int, ...]]
    sizes: tuple[int, ...]


def keep_largest(
    scores: Mapping[str, Float[Array, "matrices *shape"]], groups: Groups, counts: Int[Any, "groups"]
) -> dict[str, Bool[Array, "matrices *shape"]]:
    """Masks that are False at the `counts` smallest scores of each group, and True in matrices of none."""
    keys = {path: _key(scores[path]) for path in groups.of}
    positions = _positions(keys, groups)
    wanted = jnp.asarray(counts, jnp.uint32)

    def number(chosen: Callable[[str], Bool[Array, "matrices size"]]) -> UInt32[Array, "groups"]:
        """How many scores of each group are chosen."""
        total = jnp.zeros(len(groups.sizes) + 1, jnp.uint32)
        for path, index in groups.of.items():
            each = jnp.sum(chosen(path), axis=1, dtype=jnp.uint32)
            total = total.at[np.asarray(index)].add(each)  # -1 is the last, which is left out
        return total[:-1]

    def of(values: UInt32[Array, "groups"], path: str) -> UInt32[Array, "matrices 1"]:
        """The value of each matrix's group; 0 where it has none."""
        padded = jnp.concatenate([values, jnp.zeros(1, values.dtype)])
        return padded[np.asarray(groups.of[path])][:, None]

    def smallest(enough: Callable[[jax.Array], Bool[Array, "groups"]]) -> UInt32[Array, "groups"]:
        """The smallest number of 32 bits for which a condition holds that holds for all larger ones."""

        def halve(_: Any, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = ends
            middle = low + (high - low) // jnp.uint32(2)
            holds = enough(middle)
            return jnp.where(holds, low, middle + 1), jnp.where(holds, middle, high)

        none = jnp.zeros(len(groups.sizes), jnp.uint32)
        return jax.lax.fori_loop(0, 32, halve, (none, none + jnp.uint32(2**32 - 1)))[1]

    limit = smallest(lambda key: number(lambda path: keys[path] <= of(key, path)) >= wanted)
    room = wanted - number(lambda path: keys[path] < of(limit, path))

    def first(path: str, end: UInt32[Array, "groups"]) -> Bool[Array, "matrices size"]:
        return (keys[path] == of(limit, path)) & (positions[path] < of(end, path))

    end = smallest(lambda end: number(lambda path: first(path, end)) >= room)
    return {
        path: ~((keys[path] < of(limit, path)) | first(path, end)).reshape(scores[path].shape)
        for path in groups.of
    }


def _key(scores: Float[Array, "matrices *shape"]) -> UInt32[Array, "matrices size"]:
    """Integers above 0 in the order of the scores, of which -0 and 0 are equal."""
    flat = scores.astype(jnp.float32).reshape(len(scores), -1) + 0.0
    bits = jax.lax.bitcast_convert_type(flat, jnp.uint32)
    return jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))


def _positions(keys: Counted, groups: Groups) -> Counted:
    """The position of each score among those of its group."""
    passed, positions = [0] * (len(groups.sizes) + 1), dict[str, Array]()
    for path, index in groups.of.items():
        size = keys[path].shape[1]
        begins = []
        for group in index:
            begins.append(passed[group])
            passed[group] += size
        starts = np.asarray(begins, np.uint32)[:, None]
        positions[path] = jax.lax.broadcasted_iota(jnp.uint32, keys[path].shape, 1) + starts
    return positions
