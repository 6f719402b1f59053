"""Labelled text: GLUE's SST-2 and MNLI from TFDS, the user's own tables, tasks made of installed documents.

A source has a split 'train' and one or more reported sets, which training never reads. Label names come
from the data and are stored with a run: GLUE's order is not fairseq's. What a model that is there already is
evaluated on, or predicts, needs no split 'train'; its labels are the model's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data.text.sources import identity_of
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string

# dataset -> (fields of the texts, reported sets, sets without labels)
GLUE = {
    "glue/sst2": (("sentence",), ("validation",), ("test",)),
    "glue/mnli": (
        ("premise", "hypothesis"),
        ("validation_matched", "validation_mismatched"),
        ("test_matched", "test_mismatched"),
    ),
}
NO_LABEL = -1


@dataclass(frozen=True)
class Examples:
    """Texts, or pairs of texts, and the index of each one's label; NO_LABEL in a set without them."""

    texts: list[tuple[str, ...]]
    labels: list[int]


@dataclass(frozen=True)
class LabelledSource:
    """A classification task that can be read more than once, split by split.

    `trains` says whether there is a split 'train'; `reported` sets have labels and `unlabelled` ones have
    none, to be predicted only; `notes` tell what of the data is not used.
    """

    description: str
    origin: dict[str, Any]
    files: dict[str, epath.Path]
    label_names: tuple[str, ...]
    reported: tuple[str, ...]
    read: Callable[[str], Examples]
    trains: bool = True
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def identity(self) -> str:
        return identity_of(self.files)


def open_labelled(config: DataConfig, label_names: Sequence[str] | None = None) -> LabelledSource:
    """The task that `config` names; UserError if it is not there. With the `label_names` of a model what it
    can be evaluated on or predict: its labels, in its order."""
    if config.name == "files":
        from tlc_jax.data.labelled.labelled_tables import open_tables

        return open_tables(config.dir, label_names)
    if config.name in GLUE:
        source = _glue(config, to_train=label_names is None)
    elif config.name.startswith("docs/"):
        from tlc_jax.data.labelled.doc_tasks import doc_task

        source = doc_task(config.name)
    else:
        known = ", ".join(["files", *GLUE, "docs/package", "docs/pair"])
        raise UserError(f"data.name {config.name} is no classification task: give one of {known}")
    return source if label_names is None else _with_labels(source, tuple(label_names))


def _with_labels(source: LabelledSource, names: tuple[str, ...]) -> LabelledSource:
    """The same task by the numbers that a model has for its labels."""
    if names == source.label_names:
        return source
    if unknown := [name for name in source.label_names if name not in names]:
        raise UserError(
            f"the model tells {', '.join(names)} apart, but {source.description} has the label "
            f"{unknown[0]}: give data whose labels the model knows"
        )
    numbers = {i: names.index(name) for i, name in enumerate(source.label_names)} | {NO_LABEL: NO_LABEL}

    def read(split: str) -> Examples:
        examples = source.read(split)
        return Examples(examples.texts, [numbers[label] for label in examples.labels])

    return dataclasses.replace(source, label_names=names, read=read)


def _glue(config: DataConfig, to_train: bool) -> LabelledSource:
    fields, reported, unlabelled = GLUE[config.name]
    folder = tfds_folder(config.name, config.dir)
    files: dict[str, epath.Path] = {}
    if to_train or not all(_is_prepared(folder, split) for split in unlabelled):
        unlabelled = ()
    for split in ("train", *reported, *unlabelled):
        files |= tfds_files(config.name, folder, split)
    names = tuple((folder / "label.labels.txt").read_text(encoding="utf-8").split())

    def read(split: str) -> Examples:
        texts, labels = [], []
        for number, example in enumerate(tfds_examples(folder, split)):
            stopping.check()
            texts.append(tuple(tfds_string(example, field, number, folder) for field in fields))
            labels.append(NO_LABEL if split in unlabelled else int(example["label"]))
            if split not in unlabelled and not 0 <= labels[-1] < len(names):
                raise UserError(
                    f"example {number} of {split} in {folder} has the label {labels[-1]}, which is none: "
                    "prepare the dataset again"
                )
        return Examples(texts, labels)

    return LabelledSource(
        description=f"TFDS {config.name} {folder.name} in {folder}",
        origin={"kind": "tfds", "name": config.name, "version": folder.name},
        files=files,
        label_names=names,
        reported=reported,
        read=read,
        unlabelled=unlabelled,
    )


def _is_prepared(folder: epath.Path, split: str) -> bool:
    return any(f"-{split}." in path.name for path in folder.iterdir())
