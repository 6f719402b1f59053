"""A trained model, from its run directory or from an artifact, with the data that it is evaluated on."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass

import jax
from rich.console import Console

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.config import ClassificationConfig, Config, DataConfig, PairsConfig, TranslationConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.data.labelled.labelled_tables import holds_tables
from tlc_jax.runs.restore import trained_model
from tlc_jax.storage.paths import AnyPath
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.build import make_task, open_data, prepare_data

_MOST_ROWS, _MOST_TOKENS = 1024, 1 << 15  # computed at once


@dataclass(frozen=True)
class LoadedModel:
    """`step` is the number of updates that the model was trained for; the config's rows at once are bounded
    (docs/security.md)."""

    config: Config
    task: Task
    params: Params
    step: int
    mesh: jax.sharding.Mesh


def load_model(root: str, console: Console, data_dir: str | None = None) -> LoadedModel:
    """The model of a run, of one of its marks (RUN@MARK) or of an artifact; with the data that `data_dir`
    holds, or else with those that it was trained on. A classifier takes any tables, too."""
    model = trained_model(root, console.print)
    config = model.config
    if data_dir is None and not is_artifact(model.rundir.root):
        data = open_data(config, model.rundir.data)
    else:
        config = _with_data(config, model.rundir.tokenizer, data_dir)
        data = prepare_data(config, console, to_train=False, label_names=model.label_names)
    task = make_task(_in_bounds(config, _MOST_ROWS), data)
    sets = (*task.evaluation_sets(), *task.reported_sets())
    config = _in_bounds(config, max((task.evaluation_size(name) for name in sets), default=_MOST_ROWS))
    return LoadedModel(config, task, model.params, model.step, model.mesh)


def _in_bounds(config: Config, examples: int) -> Config:
    """The config, which may come from anybody, with a batch size that can be computed at once: where it asks
    for more than 1,024 rows (of a translation, 32,768 tokens), what so many examples fill, and no more than
    that."""
    longest, devices, pairs = config.data.sequence_length, jax.device_count(), config.task
    most = _MOST_TOKENS if isinstance(pairs, TranslationConfig) else _MOST_ROWS
    if config.batch_size <= most:
        return config
    rows = 1 << max(0, examples - 1).bit_length()
    if config.at_once <= most:
        size = config.at_once
    elif not isinstance(pairs, TranslationConfig):
        size = -(-min(rows, most) // devices) * devices
    else:
        size = min(rows * longest, most)
    if isinstance(pairs, TranslationConfig):
        if longest > most:
            raise UserError(
                f"the model's config has a data.sequence_length of {longest:,}, and at most {most:,} tokens "
                "are computed at once: correct its config.json"
            )
        size, pairs = max(size, devices * longest), dataclasses.replace(pairs, row_multiple=devices)
    return dataclasses.replace(config, batch_size=size, micro_batch=None, task=pairs)


def _with_data(config: Config, tokenizer: AnyPath, data_dir: str | None) -> Config:
    """The config with other data, for the model's tokenizer, from where the reader says: a model's config may
    come from anybody, and no place on the reader's machine is looked at because it says so."""
    if data_dir is None and config.data.dir is not None:
        raise UserError(
            f"the artifact says that its data are in {config.data.dir!r}, which is not believed: give "
            f"--data.dir {shlex.quote(config.data.dir)} if that is where yours are"
        )
    _check_stays_inside(config.data)
    name = {}
    if isinstance(config.task, ClassificationConfig) and data_dir is not None and holds_tables(data_dir):
        name = {"name": "files"}
    try:
        changed = dataclasses.replace(config.data, dir=data_dir, tokenizer=str(tokenizer), **name)
        return dataclasses.replace(config, data=changed)
    except ValueError as error:
        raise UserError(f"--data.dir {data_dir} does not go with this model: {error}") from error


def _check_stays_inside(data: DataConfig | PairsConfig) -> None:
    """UserError where a name in the model's config leads out of the folder of the data."""
    named = (
        [data.name, data.split] if isinstance(data, DataConfig) else [data.train, data.validation, data.test]
    )
    for source in (part.strip() for text in named for part in text.split(",")):
        if source.startswith(("/", "~")) or ".." in source.split("/"):
            raise UserError(
                f"the model's config names the data {source!r}, which lead out of --data.dir: correct its "
                "config.json"
            )
