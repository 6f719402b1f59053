"""The memory of an update on a device, as the compiler says; nothing is run.

It is that of one program: parameters, optimizer state, a batch, and what the program holds besides at its
worst moment (gradients, activations that the backward pass needs, room to work in). The memory of the
process, of compilation and of checkpoints is not in it.
"""

from __future__ import annotations

import math
from typing import Any

import jax

from tlc_jax.config import Config
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.memory import compile_abstract
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.movement import Movement
from tlc_jax.training.state import abstract_params, abstract_state


def update_memory(config: Config) -> dict[str, int]:
    """Bytes that each device needs for an update: `parameter_bytes`, `optimizer_bytes` and `temporary_bytes`,
    and `peak_bytes` of all together. A CPU's compiler gives no peak, but the sum of what is allocated."""
    mesh = make_mesh(config.mesh)
    objective = kind_of(config).objective(config)
    movement = Movement.of(config, abstract_params(objective))
    state, _ = abstract_state(objective, config.optimizer, mesh, movement=movement)
    step = compile_abstract(objective, config, mesh, [objective.largest_batch()])
    [program] = step.by_shape.values()
    allocated: Any = program.memory_analysis()
    return {
        "parameter_bytes": _bytes(state.params),
        "optimizer_bytes": _bytes(state.optimizer),
        "temporary_bytes": allocated.temp_size_in_bytes,
        "peak_bytes": step.peak_bytes,
    }


def _bytes(arrays: Any) -> int:
    """Bytes of abstract arrays on one of the devices that they are sharded over."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(arrays))
