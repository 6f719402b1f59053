"""A trained model together with the data that it is evaluated on."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass

import jax
from rich.console import Console

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.runs.load import TrainedModel, load_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of

_MANY = 1024  # examples


@dataclass(frozen=True)
class ModelWithData:
    """A model and its task. The batch size of `config` is bounded (docs/security.md); `trained_with` is the
    config that the model was trained with, `step` the number of updates."""

    config: Config
    task: Task
    params: Params
    step: int
    mesh: jax.sharding.Mesh
    trained_with: Config


def load_with_data(reference: str, console: Console, data_dir: str | None = None) -> ModelWithData:
    """The model of a run, of one of its marks (RUN@MARK) or of an artifact, with data as `with_data`."""
    return with_data(load_model(reference, warn=console.print), console, data_dir)


def with_data(model: TrainedModel, console: Console, data_dir: str | None = None) -> ModelWithData:
    """The model with the data in `data_dir`, or else with those that it was trained on. A classifier is also
    evaluated on tables, of pairs if it was trained on pairs."""
    config, kind = model.config, kind_of(model.config)
    if data_dir is None and not is_artifact(model.rundir.root):
        data = kind.open(config, model.rundir.data)
    else:
        config = _with_data(config, model.rundir.tokenizer, data_dir)
        data = kind.prepare(config, console, model.label_names)
        if texts := data.manifest.get("texts_per_example"):
            model.check_texts(texts, f"{data_dir or 'the data set'} holds")
    task = kind.task(kind.bounded(config, _MANY), data)
    sets = (*task.evaluation_sets(), *task.reported_sets())
    config = kind.bounded(config, max((task.evaluation_size(name) for name in sets), default=_MANY))
    return ModelWithData(config, task, model.params, model.step, model.mesh, model.config)


def _with_data(config: Config, tokenizer: AnyPath, data_dir: str | None) -> Config:
    """The config with other data and the model's tokenizer. The data come from where the reader says: anybody
    may have written the config, so no path in it is read."""
    if data_dir is None and config.data.dir is not None:
        raise UserError(
            f"the artifact says that its data are in {config.data.dir!r}, which is not trusted: give "
            f"--data.dir {shlex.quote(config.data.dir)} if that is where yours are"
        )
    for name in config.data.source_names:
        if name.startswith(("/", "~")) or ".." in name.split("/"):
            raise UserError(
                f"the model's config names the data {name!r}, which lead out of --data.dir: correct its "
                "config.json"
            )
    data = config.data if data_dir is None else kind_of(config).data_in(config, data_dir)
    try:
        data = dataclasses.replace(data, dir=data_dir, tokenizer=str(tokenizer))
        return dataclasses.replace(config, data=data)
    except ValueError as error:
        raise UserError(f"--data.dir {data_dir} does not go with this model: {error}") from error
