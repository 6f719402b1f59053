"""Programs, and states that runs begin with, that the runs of one test process share.

Most runs here are of a few programs, and jax would trace and lower each again for each run: twice as long as
the rest of a tiny run takes. A key has all that a program follows from. Child processes share nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.sharding import Mesh

from tlc_jax.config import Config, OptimizerConfig
from tlc_jax.runs import assemble
from tlc_jax.tasks.base import Objective, Task
from tlc_jax.training import evaluator, session
from tlc_jax.training.movement import Movement
from tlc_jax.training.state import init_state
from tlc_jax.training.step import CompiledStep, compile_train_step, make_evaluation_step, make_train_step

# data, seeds and what the schedule controls are arguments of a program
ON_THE_HOST = {"budget", "checkpoint", "data", "evaluation", "log_every", "schedule", "seed", "stop_after"}

_programs: dict[Any, Any] = {}


def share() -> None:
    """Let each program be made once from now on."""
    assemble.init_state = _init_state
    assemble.make_train_step = _make_train_step
    session.compile_train_step = _compile_train_step
    evaluator.make_evaluation_step = _make_evaluation_step


def forget() -> None:
    """Free the memory of all of them."""
    _programs.clear()


def _init_state(
    task: Objective, config: OptimizerConfig, key: jax.Array, mesh: Mesh, movement: Movement | None
) -> tuple[Any, Any]:
    of: Any = task
    about = (_about(task, of._config), config, mesh, jax.random.key_data(key).tobytes(), repr(movement))
    if about not in _programs:
        _programs[about] = init_state(task, config, key, mesh, movement)
    state, optimizer = _programs[about]
    # a copy: updates take over the memory of their state
    return jax.tree.map(lambda x: jax.device_put(x, x.sharding, may_alias=False), state), optimizer


def _make_train_step(
    task: Objective, config: Config, optimizer: Any, mesh: Mesh, teacher: Any = None
) -> Callable[..., Any]:
    step: Any = make_train_step(task, config, optimizer, mesh, teacher)
    updates = config.compression_aware.movement and config.budget.steps  # along which its masks change
    step.follows_from = (_about(task, config), mesh, updates, teacher and _about(teacher, teacher._config))
    return step


def _compile_train_step(
    step: Any,
    state: Any,
    samples: Iterable[Any],
    key: Any,
    controls: Any,
    mesh: Mesh,
    advance: Callable[[int], None],
    teacher_params: Any,
) -> CompiledStep:
    samples = list(samples)
    leaves, structure = jax.tree.flatten((state, samples, key, controls, teacher_params))
    shapes = tuple((x.shape, x.dtype, getattr(x, "sharding", None)) for x in leaves)
    about = (step.follows_from, structure, shapes)
    if about in _programs:
        advance(len(samples))
    else:
        _programs[about] = compile_train_step(
            step, state, samples, key, controls, mesh, advance, teacher_params
        )
    return _programs[about]


def _make_evaluation_step(task: Task, mesh: Mesh) -> Callable[..., Any]:
    of: Any = task
    token_bytes = of.token_bytes().tobytes() if hasattr(of, "token_bytes") else b""  # a constant of it
    about = (_about(task, of._config), mesh, token_bytes, task.primary_metric.name)
    if about not in _programs:
        _programs[about] = make_evaluation_step(task, mesh)
    return _programs[about]


def _about(objective: Objective, config: Config) -> tuple[Any, ...]:
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    options = repr({name: value for name, value in fields.items() if name not in ON_THE_HOST})
    return type(objective), getattr(objective, "classes", None), options, repr(jax.config.values)
