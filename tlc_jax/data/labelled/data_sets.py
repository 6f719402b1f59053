"""The list of labelled data sets. A new one is a record in a file of its own and a line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.cola import COLA
from tlc_jax.data.labelled.doc_tasks import DOCS_PACKAGE, DOCS_PAIR
from tlc_jax.data.labelled.glue import MNLI, SST2
from tlc_jax.data.labelled.labelled_source import NO_LABEL, Examples, LabelledDataSet, LabelledSource
from tlc_jax.data.labelled.labelled_tables import TABLES

DATA_SETS: tuple[LabelledDataSet, ...] = (
    TABLES,
    SST2,
    MNLI,
    COLA,
    DOCS_PACKAGE,
    DOCS_PAIR,
)


def find_data_set(name: str) -> LabelledDataSet:
    """The record of the data set that `data.name` names; UserError if there is none."""
    for data_set in DATA_SETS:
        if data_set.name == name:
            return data_set
    names = ", ".join(data_set.name for data_set in DATA_SETS)
    raise UserError(f"data.name {name} is no classification task: give one of {names}")


def open_labelled(config: DataConfig, label_names: Sequence[str] | None = None) -> LabelledSource:
    """The classification task that `config` names; UserError if it does not exist. With the `label_names` of
    a model: what it can be evaluated on or predict, with class indices in the model's order."""
    data_set = find_data_set(config.name)
    source = dataclasses.replace(data_set.open(config, label_names), metric=data_set.metric)
    return source if label_names is None else _with_labels(source, tuple(label_names))


def _with_labels(source: LabelledSource, names: tuple[str, ...]) -> LabelledSource:
    if names == source.label_names:
        return source
    if unknown := [name for name in source.label_names if name not in names]:
        raise UserError(
            f"the model has the classes {', '.join(names)}, but {source.description} has the label "
            f"{unknown[0]}: give data whose labels the model knows"
        )
    indices = {i: names.index(name) for i, name in enumerate(source.label_names)} | {NO_LABEL: NO_LABEL}

    def read(split: str) -> Examples:
        examples = source.read(split)
        return Examples(examples.texts, [indices[label] for label in examples.labels])

    return dataclasses.replace(source, label_names=names, read=read)
