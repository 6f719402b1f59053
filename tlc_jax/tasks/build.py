"""From a config to its task: which data it needs, and how they are made, kept and opened."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
from rich.console import Console

from tlc_jax.config import (
    ClassificationConfig,
    Config,
    EncoderDecoderConfig,
    MlmConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.core.errors import UserError
from tlc_jax.core.flops import mlm_update, translation_update
from tlc_jax.core.schema import Name, checked
from tlc_jax.core.tree import Params
from tlc_jax.data import cache
from tlc_jax.data.labelled.examples import PackedExamples, open_examples, prepare_examples
from tlc_jax.data.labelled.labelled_source import open_labelled
from tlc_jax.data.pairs.pair_packing import PackedPairs, open_packed_pairs, prepare_pairs
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.text.packing import PackedText, open_packed, prepare
from tlc_jax.data.text.sources import open_source
from tlc_jax.models.classifier import init_classifier
from tlc_jax.models.encoder import init_mlm
from tlc_jax.models.encoder_decoder import init_encoder_decoder
from tlc_jax.storage.paths import AnyPath, local_folder
from tlc_jax.storage.sealed import MANIFEST, Damaged, read_manifest
from tlc_jax.tasks.base import AbstractBatch, ShapedObjective, Task
from tlc_jax.tasks.classification import Classification
from tlc_jax.tasks.mlm import MaskedLanguageModelling, MlmObjective
from tlc_jax.tasks.translation import Translation, TranslationObjective

Data = PackedText | PackedExamples | PackedPairs


def describe_source(config: Config) -> str:
    """What the data are made of; UserError if it is not there."""
    data = config.data
    if isinstance(data, PairsConfig):
        return open_pairs(data).description
    if isinstance(config.task, ClassificationConfig):
        return open_labelled(data).description
    return open_source(data).description


def prepare_data(
    config: Config, console: Console, *, to_train: bool = True, label_names: tuple[str, ...] | None = None
) -> Data:
    """The data of a run, from the cache if the same were prepared before. With the `label_names` of a
    classifier, what it is evaluated on or predicts."""
    data, vocab_size = config.data, config.model.vocab_size
    if isinstance(data, PairsConfig):
        return prepare_pairs(data, vocab_size, console, to_train=to_train)
    if isinstance(config.task, ClassificationConfig):
        return prepare_examples(data, vocab_size, console, config.task.max_examples, label_names)
    return prepare(data, vocab_size, console, to_train=to_train)


def open_data(config: Config, folder: AnyPath) -> Data:
    """Prepared data, after checking every byte."""
    local = folder if isinstance(folder, Path) else cache.nearby(folder, cache_folder(config))
    if isinstance(config.data, PairsConfig):
        return open_packed_pairs(local)
    return open_examples(local) if isinstance(config.task, ClassificationConfig) else open_packed(local)


def cache_folder(config: Config) -> Path:
    """Where prepared data are kept for all runs; UserError if it is below a home folder that is not there."""
    return local_folder(config.data.cache_dir, "a --data.cache-dir")


def keep_data(data: Data, config: Config, folder: AnyPath) -> Data:
    """The same data in a run's own folder, so that the run outlives the cache."""
    cache.keep(data.folder, data.manifest, folder)
    return open_data(config, folder)


def make_task(config: Config, data: Data) -> Task:
    """The task that the config describes, on its data."""
    if isinstance(config.task, ClassificationConfig):
        assert isinstance(data, PackedExamples)
        return Classification(config, config.task, data)
    if isinstance(config.task, TranslationConfig):
        assert isinstance(data, PackedPairs)
        return Translation(config, config.task, data)
    assert isinstance(data, PackedText)
    return MaskedLanguageModelling(config, config.task, data)


def make_objective(config: Config) -> ShapedObjective:
    """What the config computes of a batch; a classification's classes only its data know."""
    if isinstance(config.task, MlmConfig):
        return MlmObjective(config, config.task)
    if isinstance(config.task, TranslationConfig):
        return TranslationObjective(config, config.task)
    raise UserError(
        "the classes of a classification are not known before its data: give a config that pretrains or "
        "translates"
    )


def update_flops(config: Config, batch: AbstractBatch) -> float:
    """Of one update with such a batch (core/flops.py)."""
    if isinstance(config.model, EncoderDecoderConfig):
        (rows, source), (_, target) = batch["source"].shape, batch["targets"].shape
        return translation_update(config.model, rows, source, target)
    rows, length = batch["tokens"].shape
    return mlm_update(config.model, rows, length, batch["positions"].shape[1])


def abstract_params(config: Config, label_names: list[str] | tuple[str, ...]) -> Params:
    """Shapes and types of the parameters, nothing computed; `label_names` matter to a classification."""
    if isinstance(config.model, EncoderDecoderConfig):
        init = functools.partial(init_encoder_decoder, config.model)
    elif isinstance(config.task, ClassificationConfig):
        init = functools.partial(init_classifier, config.model, len(label_names))
    else:
        init = functools.partial(init_mlm, config.model)
    return jax.eval_shape(init, jax.random.key(0))


def label_names(config: Config, folder: AnyPath | None) -> list[str]:
    """Of a classification: from its prepared data, or from the source if `folder` is None."""
    if not isinstance(config.task, ClassificationConfig) or isinstance(config.data, PairsConfig):
        return []
    if folder is None:
        return list(open_labelled(config.data).label_names)
    try:
        return checked(read_manifest(folder).get("label_names"), list[Name])
    except Damaged as damage:
        raise UserError(f"{damage}: put the run's own data back") from damage
    except ValueError as error:
        raise UserError(
            f"{folder / MANIFEST} names no labels ({error}): put the run's own data back"
        ) from error
