"""What training changes: parameters, optimizer state and the number of finished steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from tlc_jax.config import OptimizerConfig
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import replicated
from tlc_jax.tasks.base import Task
from tlc_jax.training.optimizer import make_optimizer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """A pytree: of arrays, or of their shapes or shardings.

    `step` is the number of finished updates, int32 []; `params` a plain nested dict.
    """

    step: Any
    params: Any
    optimizer: Any


def abstract_params(task: Task) -> Params:
    """Shapes and types of the task's parameters, nothing computed."""
    return jax.eval_shape(task.init, jax.random.key(0))


def init_state(
    task: Task, config: OptimizerConfig, key: jax.Array, mesh: Mesh
) -> tuple[TrainState, optax.GradientTransformation]:
    """A new state, born on its devices, and the optimizer that goes with it."""
    optimizer = make_optimizer(config, abstract_params(task))

    def init(key: jax.Array) -> TrainState:
        params = task.init(key)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(init, out_shardings=replicated(mesh))(key), optimizer
