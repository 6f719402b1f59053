"""What training changes: parameters, optimizer state and the number of finished steps."""

from __future__ import annotations

import functools
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
from tlc_jax.tasks.base import Objective
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


def abstract_params(task: Objective) -> Params:
    """Shapes and types of the task's parameters, nothing computed."""
    return jax.eval_shape(task.init, jax.random.key(0))


@dataclass(frozen=True)
class Start:
    """Parameters to begin with; what the masks of their tensors prune stays zero."""

    params: Params
    masks: Tensors


def init_state(
    task: Objective, config: OptimizerConfig, key: jax.Array, mesh: Mesh, start: Start | None = None
) -> tuple[TrainState, optax.GradientTransformation]:
    """A new state, born on its devices (`parallel/sharding.py`), and the optimizer that goes with it."""
    abstract, optimizer = abstract_state(task, config, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    state = jax.jit(functools.partial(_init, task, optimizer), out_shardings=shardings)(key)
    return (state, optimizer) if start is None else _started(state, optimizer, start)


def abstract_state(
    task: Objective, config: OptimizerConfig, mesh: Mesh
) -> tuple[TrainState, optax.GradientTransformation]:
    """Shapes, types and shardings of a state, nothing computed; and its optimizer."""
    optimizer = make_optimizer(config, abstract_params(task))
    state = jax.eval_shape(functools.partial(_init, task, optimizer), jax.random.key(0))
    params = param_shardings(mesh, state.params)
    lies = TrainState(replicated(mesh), params, like_params(mesh, params, state.optimizer))
    return jax.tree.map(
        lambda x, own: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own), state, lies
    ), optimizer


def _init(task: Objective, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    params = task.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def _started(
    state: TrainState, optimizer: optax.GradientTransformation, start: Start
) -> tuple[TrainState, optax.GradientTransformation]:
    pruned = join(apply_masks(split(start.params), start.masks))
    params = jax.tree.map(lambda x, new: jax.device_put(x, new.sharding), pruned, state.params)
    if not start.masks:
        return TrainState(state.step, params, state.optimizer), optimizer
    own = with_masks(state.optimizer, params, start.masks)
    return TrainState(state.step, params, own), masked(optimizer)
