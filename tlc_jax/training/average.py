"""The mean of the parameters of a run's newest checkpoints (T2T avg_checkpoints.py; Vaswani et al. 6.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tlc_jax.core.errors import UserError
from tlc_jax.core.place import Place
from tlc_jax.core.tree import Params
from tlc_jax.training.checkpoint import restore_params, whole_steps


def last_steps(folder: Place, count: int) -> list[int]:
    """The steps of the `count` newest checkpoints, in their order; UserError if there are fewer."""
    steps = whole_steps(folder)
    if len(steps) < count:
        raise UserError(
            f"{folder} holds {len(steps)} checkpoints, not {count}: train with --checkpoint.keep {count}, or "
            f"take @last{max(len(steps), 1)}"
        )
    return steps[-count:]


def mean_params(folder: Place, like: Params, steps: list[int]) -> Params:
    """The mean of the parameters of these steps, summed in float32 in their order. UserError where one is
    damaged: the mean of the others would be another model."""

    def of_step(step: int) -> Params:
        return restore_params(folder, like, lambda text: None, steps=[step])[0]

    total = of_step(steps[0])
    for step in steps[1:]:
        total = jax.tree.map(jnp.add, total, of_step(step))
    return jax.tree.map(lambda x: x / len(steps), total)
