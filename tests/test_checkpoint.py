"""Checkpoints: what is saved is the state of that step, parameters load alone, and only the newest stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tlc_jax.core.errors import UserError
from tlc_jax.parallel.mesh import make_mesh, replicated
from tlc_jax.training.checkpoint import Checkpoints, restore_params
from tlc_jax.training.state import TrainState


def new_state() -> TrainState:
    params = {"encoder": {"kernel": jnp.arange(1_000_000.0), "bias": jnp.zeros(3)}}
    state = TrainState(jnp.int32(0), params, {"mu": jax.tree.map(jnp.ones_like, params)})
    return jax.device_put(state, replicated(make_mesh()))


def test_training_on_while_saving_does_not_change_what_is_saved(tmp_path: Path) -> None:
    """The step takes over its input's memory; the background copy must not see the next step in it."""
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = new_state()
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        for number in range(1, 4):
            state = step(state)
            checkpoints.save(number, state, {"seconds": number / 2})
            for _ in range(20):
                state = step(state)
        checkpoints.wait()
        for number in range(1, 4):
            found, meta = checkpoints.restore(number, new_state())
            expected = 21 * (number - 1) + 1
            np.testing.assert_array_equal(
                found.params["encoder"]["kernel"], np.arange(1_000_000.0) + expected
            )
            np.testing.assert_array_equal(found.optimizer["mu"]["encoder"]["bias"], np.ones(3) + expected)
            assert int(found.step) == number
            assert meta == {"seconds": number / 2}


def test_the_newest_stay(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest_step is None
        for number in (3, 6, 9, 12):
            checkpoints.save(number, new_state(), {})
        checkpoints.wait()
        assert checkpoints.latest_step == 12
    assert {path.name for path in tmp_path.iterdir() if path.name.isdigit()} == {"9", "12"}


def test_parameters_load_alone_and_elsewhere(tmp_path: Path) -> None:
    state = new_state()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(7, state, {})
    shutil.rmtree(tmp_path / "7" / "optimizer")
    one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    like = jax.tree.map(
        lambda x: jax.device_put(jnp.zeros_like(x), NamedSharding(one, PartitionSpec())), state.params
    )
    params, step = restore_params(tmp_path, like)
    assert step == 7
    np.testing.assert_array_equal(params["encoder"]["kernel"], np.arange(1_000_000.0))
    assert len(params["encoder"]["kernel"].devices()) == 1
    assert isinstance(params["encoder"], dict)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    state = new_state()
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(7, state, {})
    with pytest.raises(ValueError, match=r"[Ss]hape"):
        restore_params(tmp_path, {"encoder": {"kernel": jnp.zeros(5), "bias": jnp.zeros(3)}})
    with pytest.raises((ValueError, KeyError), match="another"):
        restore_params(tmp_path, {"encoder": {**state.params["encoder"], "another": jnp.zeros(3)}})


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        restore_params(tmp_path, {})
