"""Which program an update is, so that a measured time is known to be that of this program."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any

import jax

from tlc_jax.config import Config, MeshConfig
from tlc_jax.parallel.mesh import batch_sharding, make_mesh, replicated
from tlc_jax.runs.starts import versions
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.movement import Movement
from tlc_jax.training.schedule import controls
from tlc_jax.training.state import abstract_params, abstract_state, sharded_params
from tlc_jax.training.step import make_train_step

_CLASSES = 2  # of a classification, whose data are not read
_DIGITS = 12


@functools.lru_cache
def program_of(config: Config, teacher: Config | None = None) -> str:
    """The first digits of the SHA-256 of what the compiler is given for an update of the config, which may
    learn from a `teacher`, and of the versions of jax and jaxlib. Nothing is compiled.

    It is lowered for one CPU, so that all machines agree: on which device an update was timed is said beside
    its time. Comments, and code that an update does not run, do not change it.
    """
    if config.micro_batch == "auto":
        config = dataclasses.replace(config, micro_batch=None)
    mesh = make_mesh(MeshConfig(), jax.local_devices()[:1])
    objective = kind_of(config).objective(config, _CLASSES)
    movement = Movement.of(config, abstract_params(objective))
    state, optimizer = abstract_state(objective, config.optimizer, mesh, movement=movement)

    def abstract(tree: Any, sharding: jax.sharding.Sharding) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    arguments = (
        abstract(objective.largest_batch(), batch_sharding(mesh)),
        abstract(jax.eval_shape(functools.partial(jax.random.key, 0)), replicated(mesh)),
        abstract(controls(config, 0.5, 1), replicated(mesh)),
    )
    learnt = None if teacher is None else kind_of(teacher).objective(teacher, _CLASSES)
    if learnt is not None:
        arguments = (*arguments, sharded_params(learnt, mesh))
    step = jax.jit(make_train_step(objective, config, optimizer, mesh, learnt), donate_argnums=0)
    lowered = step.trace(state, *arguments).lower(lowering_platforms=("cpu",))
    packages = versions()["packages"]
    text = f"{lowered.as_text()}\njax {packages['jax']}, jaxlib {packages['jaxlib']}"
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
