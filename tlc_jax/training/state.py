"""The training state: parameters, optimizer state and the number of finished updates."""

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
from tlc_jax.training.masked import MaskedState, masked, parameter_masks, with_masks
from tlc_jax.training.movement import Movement
from tlc_jax.training.optimizer import make_optimizer

Optimizer = optax.GradientTransformation


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """A pytree of arrays, or of their shapes or shardings; `step` is int32 [], `params` a nested dict."""

    step: Any
    params: Any
    optimizer: Any


def seed_keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """The keys of a run's initial parameters and of its dropout."""
    init, dropout = jax.random.split(jax.random.key(seed))
    return init, dropout


def abstract_params(task: Objective) -> Params:
    """Shapes and types of the task's parameters, nothing computed."""
    return jax.eval_shape(task.init, jax.random.key(0))


def sharded_params(task: Objective, mesh: Mesh) -> Params:
    """Shapes, types and shardings of the task's parameters, nothing computed."""
    params = abstract_params(task)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        params,
        param_shardings(mesh, params, task.family.sharding_rules),
    )


def init_params(task: Objective, key: jax.Array, mesh: Mesh) -> Params:
    """New parameters, created where their shardings say."""
    shardings = jax.tree.map(lambda x: x.sharding, sharded_params(task, mesh))
    return jax.jit(task.init, out_shardings=shardings)(key)


def init_state(
    task: Objective, config: OptimizerConfig, key: jax.Array, mesh: Mesh, movement: Movement | None = None
) -> tuple[TrainState, Optimizer]:
    """A new state, created where its shardings say (`parallel/sharding.py`), and its optimizer, which learns
    scores if weights are pruned by `movement`."""
    abstract, optimizer = abstract_state(task, config, mesh, movement=movement)
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    return jax.jit(functools.partial(_init, task, optimizer), out_shardings=shardings)(key), optimizer


def abstract_state(
    task: Objective,
    config: OptimizerConfig,
    mesh: Mesh,
    masks: Tensors | None = None,
    movement: Movement | None = None,
) -> tuple[TrainState, Optimizer]:
    """Shapes, types and shardings of a state whose optimizer keeps `masks` (by tensor), or learns them by
    `movement`, and the optimizer; nothing is computed."""
    optimizer = make_optimizer(config, abstract_params(task))
    optimizer = movement.wrapped(optimizer) if movement else optimizer
    state = jax.eval_shape(functools.partial(_init, task, optimizer), jax.random.key(0))
    if masks:
        optimizer = masked(optimizer)
        inner = MaskedState(parameter_masks(state.params, masks), state.optimizer)
        state = TrainState(state.step, state.params, inner)
    params = param_shardings(mesh, state.params, task.family.sharding_rules)
    shardings = TrainState(replicated(mesh), params, like_params(mesh, params, state.optimizer))
    abstract = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state, shardings
    )
    return abstract, optimizer


def pruned_state(state: TrainState, params: Params, masks: Tensors) -> TrainState:
    """The state with other parameters, whose weights that `masks` (by tensor) prune are zero and stay so."""
    pruned = join(apply_masks(split(params), masks))
    # a copy: updates take over the memory of their state, and the caller keeps its parameters
    params = jax.tree.map(lambda x, y: jax.device_put(x, y.sharding, may_alias=False), pruned, state.params)
    optimizer = with_masks(state.optimizer, params, masks) if masks else state.optimizer
    return TrainState(state.step, params, optimizer)


def _init(task: Objective, optimizer: Optimizer, key: jax.Array) -> TrainState:
    params = task.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
