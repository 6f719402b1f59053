"""A trained model from its run directory, with the data that it is evaluated on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.core.rundir import split_mark
from tlc_jax.core.tree import Params
from tlc_jax.parallel.mesh import make_mesh, replicated
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.build import abstract_params, label_names, make_task, open_data, prepare_data
from tlc_jax.training.checkpoint import restore_params


@dataclass(frozen=True)
class LoadedRun:
    """The newest checkpoint of a run; `step` is the number of its updates."""

    config: Config
    task: Task
    params: Params
    step: int
    mesh: jax.sharding.Mesh


def load_run(root: str, console: Console, data_dir: str | None = None) -> LoadedRun:
    """The model of a run, or of one of its marks (RUN@MARK), with the run's own data or with those that
    `data_dir` holds."""
    rundir, mark = split_mark(root)
    if not rundir.config.is_file():
        raise UserError(f"--checkpoint {root} is not a run directory: it has no config.json")
    config = rundir.read_config()
    if data_dir is None:
        data = open_data(config, rundir.data)
    else:
        changed = dataclasses.replace(config.data, dir=data_dir, tokenizer=str(rundir.tokenizer))
        config = dataclasses.replace(config, data=changed)
        data = prepare_data(config, console)
    mesh = make_mesh()
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
        abstract_params(config, label_names(config, data.folder)),
    )
    params, step = restore_params(rundir.checkpoints, like, console.print, mark)
    return LoadedRun(config, make_task(config, data), params, step, mesh)
