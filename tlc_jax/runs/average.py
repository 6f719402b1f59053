"""The mean of the parameters of a run's newest checkpoints (T2T avg_checkpoints.py; Vaswani et al. 6.1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.core.stacked import Tensors
from tlc_jax.core.tree import Params
from tlc_jax.runs.checkpoint import Gone, restore_model, whole_steps
from tlc_jax.storage.paths import AnyPath

_TRIES = 20


def mean_of_last(folder: AnyPath, like: Params, count: int) -> tuple[Params, Tensors, list[int]]:
    """(mean of the parameters of the `count` newest checkpoints, masks of the newest, their steps).

    Summed in float32, oldest first. UserError where there are fewer, or where one is damaged: the mean of
    the others is another model.
    """
    for _ in range(_TRIES):
        steps = last_steps(folder, count)
        try:
            return *_mean(folder, like, steps), steps
        except Gone:  # the run is training, and has newer ones
            continue
    raise Gone(f"the run of {folder} removes its checkpoints faster than they can be read: try again")


def last_steps(folder: AnyPath, count: int) -> list[int]:
    """The `count` newest checkpoints, oldest first; UserError where there are fewer."""
    steps = whole_steps(folder)
    if len(steps) < count:
        raise UserError(
            f"{folder} holds {counted(len(steps), 'checkpoint')}, not {count}: train with "
            f"--checkpoint.keep {count}, or take @last{max(len(steps), 1)}"
        )
    return steps[-count:]


def _mean(folder: AnyPath, like: Params, steps: list[int]) -> tuple[Params, Tensors]:
    total, masks = None, {}
    for step in steps:
        params, masks, _ = restore_model(folder, like, lambda text: None, steps=[step])
        total = params if total is None else jax.tree.map(jnp.add, total, params)
    return jax.tree.map(lambda x: x / len(steps), total), masks
