"""A trained model from its run directory: parameters and what it takes to use them, without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.core.rundir import RunDir, split_mark
from tlc_jax.core.stacked import Tensors
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import make_mesh, replicated
from tlc_jax.tasks.build import abstract_params, label_names
from tlc_jax.training.checkpoint import restore_masks, restore_params
from tlc_jax.training.masked import tensor_masks


@dataclass(frozen=True)
class TrainedModel:
    """`step` is the number of updates; `label_names` are a classification's, else empty; `masks` tell what of
    its tensors is pruned, where anything is."""

    rundir: RunDir
    config: Config
    params: Params
    step: int
    label_names: tuple[str, ...]
    masks: Tensors


def trained_model(root: str, warn: Callable[[str], None]) -> TrainedModel:
    """Of the newest whole checkpoint of a run, or of the one at a mark (RUN@MARK); replicated on all
    devices."""
    rundir, mark = split_mark(root)
    if not rundir.config.is_file():
        raise UserError(f"--checkpoint {root} is not a run directory: it has no config.json")
    config = rundir.read_config()
    names = label_names(config, rundir.data)
    sharding = replicated(make_mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract_params(config, names)
    )
    params, step = restore_params(rundir.checkpoints, like, warn, mark)
    masks = tensor_masks(restore_masks(rundir.checkpoints, step))
    return TrainedModel(rundir, config, params, step, tuple(names), masks)
