"""What training changes: parameters, optimizer state and the number of finished steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from tlc_jax.compression.prune import apply_masks
from tlc_jax.config import OptimizerConfig
from tlc_jax.core.stacked import Tensors, join, split
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import replicated
from tlc_jax.parallel.sharding import like_params, param_shardings
from tlc_jax.tasks.base import Task
from tlc_jax.training.masked import masked, with_masks
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


@dataclass(frozen=True)
class Start:
    """Parameters to begin with; what the masks of their tensors prune stays zero."""

    params: Params
    masks: Tensors


def init_state(
    task: Task, config: OptimizerConfig, key: jax.Array, mesh: Mesh, start: Start | None = None
) -> tuple[TrainState, optax.GradientTransformation]:
    """A new state, born on its devices (`parallel/sharding.py`), and the optimizer that goes with it."""
    optimizer = make_optimizer(config, abstract_params(task))

    def init(key: jax.Array) -> TrainState:
        params = task.init(key)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    state = jax.jit(init, out_shardings=state_shardings(mesh, jax.eval_shape(init, key)))(key)
    return (state, optimizer) if start is None else _started(state, optimizer, start)


def state_shardings(mesh: Mesh, state: TrainState) -> TrainState:
    """How a state, which may be abstract, lies on the mesh."""
    params = param_shardings(mesh, state.params)
    return TrainState(replicated(mesh), params, like_params(mesh, params, state.optimizer))


def _started(
    state: TrainState, optimizer: optax.GradientTransformation, start: Start
) -> tuple[TrainState, optax.GradientTransformation]:
    pruned = join(apply_masks(split(start.params), start.masks))
    params = jax.tree.map(lambda x, new: jax.device_put(x, new.sharding), pruned, state.params)
    if not start.masks:
        return TrainState(state.step, params, state.optimizer), optimizer
    own = with_masks(state.optimizer, params, start.masks)
    return TrainState(state.step, params, own), masked(optimizer)
