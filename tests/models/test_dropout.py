"""Dropout's masks against what independent coins do, with bounds of five standard errors."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tlc_jax.models.dropout import Dropout, keep_mask

SHAPES = [(4096, 32), (64, 16, 128), (16, 4, 64, 64)]


def masks(shape: tuple[int, ...], rate: float, count: int = 4) -> np.ndarray:
    """[count, rows, rest] under keys that follow each other, as those of steps and layers do."""
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(count)]
    return np.stack([np.asarray(keep_mask(key, shape, rate)).reshape(shape[0], -1) for key in keys])


def assert_share(found: np.ndarray, expected: float) -> None:
    error = np.sqrt(expected * (1 - expected) / found.size)
    assert abs(found.mean() - expected) < 5 * error


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_elements_are_kept_as_if_by_independent_coins(shape, rate) -> None:
    found, keep = masks(shape, rate), 1 - rate
    same = keep**2 + rate**2
    for one in found:
        assert_share(one, keep)
        for step in (1, 2, 3, 8, 64):  # neighbours in a row, and in a column
            if step < one.shape[1]:
                assert_share(one[:, step:] == one[:, :-step], same)
            if step < one.shape[0]:
                assert_share(one[step:] == one[:-step], same)
        # rows and columns are hashed apart and put together: no rectangle may know its fourth corner
        corners = one[:-1, :-1] ^ one[1:, :-1] ^ one[:-1, 1:] ^ one[1:, 1:]
        assert_share(corners, (1 - (1 - 2 * keep) ** 4) / 2)
    for one, other in itertools.pairwise(found):  # under different keys
        assert_share(one == other, same)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1])
def test_no_row_and_no_column_is_favoured(axis: int) -> None:
    found = masks((512, 512), 0.5, 1)[0]
    # sums of independent coins: their variance is that of a binomial
    assert np.var(found.sum(axis)) / 128 == pytest.approx(1.0, abs=5 * np.sqrt(2 / 511))
    assert len(np.unique(found, axis=axis)) == 512


@pytest.mark.slow
def test_the_mean_and_the_gradient_are_those_of_what_is_kept() -> None:
    x, key = jnp.ones((256, 64)), jax.random.key(3)

    def drop(x: jax.Array) -> jax.Array:
        return jnp.asarray(Dropout(0.25).apply({}, x, train=True, rngs={"dropout": key}))

    assert set(np.unique(drop(x)).tolist()) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_array_equal(jax.grad(lambda x: drop(x).sum())(x), drop(x))
    assert float(drop(x).mean()) == pytest.approx(1.0, abs=5 * np.sqrt(0.25 / 0.75 / x.size))


@pytest.mark.parametrize(("rate", "train"), [(0.25, False), (0.0, True)])
def test_without_dropout_nothing_changes(rate: float, train: bool) -> None:
    x = jnp.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(Dropout(rate).apply({}, x, train=train), x)


def test_every_mesh_drops_the_same() -> None:
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"))
    split = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    key, shape = jax.random.key(5), (64, 8, 16)
    whole = keep_mask(key, shape, 0.1)
    spread = jax.jit(lambda key: keep_mask(key, shape, 0.1), out_shardings=split)(key)
    np.testing.assert_array_equal(whole, spread)
