"""Labelled data sets by name: as `prepare` writes them, or else as TFDS prepares them."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.labelled_source import (
    ACCURACY,
    NO_LABEL,
    TRAIN,
    Examples,
    LabelledDataSet,
    LabelledSource,
)
from tlc_jax.data.labelled.labelled_tables import open_tables
from tlc_jax.data.provenance import prepared_folder
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string


def tfds_data_set(
    name: str,
    *,
    fields: tuple[str, ...],
    reported: tuple[str, ...],
    unlabelled: tuple[str, ...] = (),
    metric: str = ACCURACY,
) -> LabelledDataSet:
    """The record of a data set with a split 'train' and a feature 'label'.

    What `prepare` wrote under this name has tables and needs nothing else. Of TFDS's, `fields` are the
    features with the text or the two texts; `reported` the splits to report on, `unlabelled` those that can
    only be predicted (label -1 in TFDS); `metric` names the primary metric.
    """

    def open_prepared(config: DataConfig, label_names: Sequence[str] | None) -> LabelledSource:
        if (tables := prepared_folder(name, config.dir)) is not None:
            return open_tables(str(tables), label_names)
        folder = tfds_folder(name, config.dir)
        can_predict = label_names is not None and all(_is_prepared(folder, split) for split in unlabelled)
        without_labels = unlabelled if can_predict else ()
        files: dict[str, epath.Path] = {}
        for split in (TRAIN, *reported, *without_labels):
            files |= tfds_files(name, folder, split)
        names = tuple((folder / "label.labels.txt").read_text(encoding="utf-8").split())

        def read(split: str) -> Examples:
            texts, labels = [], []
            for number, example in enumerate(tfds_examples(folder, split)):
                stopping.check()
                texts.append(tuple(tfds_string(example, field, number, folder) for field in fields))
                labels.append(NO_LABEL if split in without_labels else int(example["label"]))
                if split not in without_labels and not 0 <= labels[-1] < len(names):
                    raise UserError(
                        f"example {number} of {split} in {folder} has the label {labels[-1]}, which is not "
                        f"one of the {len(names)} classes: prepare the dataset again"
                    )
            return Examples(texts, labels)

        return LabelledSource(
            description=f"TFDS {name} {folder.name} in {folder}",
            origin={"kind": "tfds", "name": name, "version": folder.name},
            files=files,
            label_names=names,
            reported=reported,
            read=read,
            unlabelled=without_labels,
        )

    return LabelledDataSet(name, open_prepared, metric)


def _is_prepared(folder: epath.Path, split: str) -> bool:
    return any(f"-{split}." in path.name for path in folder.iterdir())
