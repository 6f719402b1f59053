"""From a config to its task and its data, whatever the kind."""

from __future__ import annotations

from pathlib import Path

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core.tree import Params
from tlc_jax.data import cache
from tlc_jax.data.cache import Prepared
from tlc_jax.storage.paths import AnyPath, local_folder
from tlc_jax.tasks.base import Objective, Task
from tlc_jax.tasks.kinds import kind_of

Data = Prepared


def describe_source(config: Config) -> str:
    """What the data are made of; UserError where they do not exist."""
    return kind_of(config).source(config).description


def prepare_data(
    config: Config, console: Console, *, to_train: bool = True, label_names: tuple[str, ...] | None = None
) -> Prepared:
    """The data of a run, from the cache if the same were prepared before. With the `label_names` of a
    classifier: data to evaluate it on, or to predict."""
    return kind_of(config).prepare(config, console, to_train=to_train, label_names=label_names)


def open_data(config: Config, folder: AnyPath) -> Prepared:
    """Prepared data, after checking every byte."""
    return kind_of(config).data_type.open(cache.local_copy(folder, config.data.cache_dir))


def cache_folder(config: Config) -> Path:
    """Where prepared data are kept for all runs; UserError if its home folder does not exist."""
    return local_folder(config.data.cache_dir, "a --data.cache-dir")


def keep_data(data: Prepared, config: Config, folder: AnyPath) -> Prepared:
    """The same data in a run's own folder, so that the run outlives the cache."""
    cache.keep(data, folder)
    return open_data(config, folder)


def make_task(config: Config, data: Prepared) -> Task:
    """The task that the config describes, on its data."""
    return kind_of(config).task(config, data)


def make_objective(config: Config, classes: int | None = None) -> Objective:
    """What the config computes from a batch. UserError where that depends on the number of `classes`."""
    return kind_of(config).objective(config, classes)


def abstract_params(config: Config, label_names: list[str] | tuple[str, ...]) -> Params:
    """Shapes and types of the parameters, nothing computed; `label_names` are a classification's."""
    return jax.eval_shape(make_objective(config, len(label_names)).init, jax.random.key(0))


def label_names(config: Config, folder: AnyPath | None) -> tuple[str, ...]:
    """The classes of a classification, from its prepared data, or from the source if `folder` is None."""
    return kind_of(config).label_names(config, folder)
