"""The user's own tables of labelled text: fields `text`, `label` and, for pairs of texts, `text_b`.

To train: a folder with a table called train and others to report on, or one table, a tenth of which is held
out to report on. To evaluate or predict: one table, or a folder of tables with any names; a table without
labels, or with -1 for each, can only be predicted.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of
from tlc_jax.data import provenance, tables
from tlc_jax.data.labelled import labels
from tlc_jax.data.labelled.hash_split import chosen, joined
from tlc_jax.data.labelled.labelled_rows import WANTED, NoTextError, Table, read_table
from tlc_jax.data.labelled.labelled_source import (
    NO_LABEL,
    TRAIN,
    TUNING,
    Examples,
    LabelledDataSet,
    LabelledSource,
)
from tlc_jax.storage.paths import local_folder
from tlc_jax.storage.sealed import MANIFEST
from tlc_jax.storage.untrusted import is_plain_name

HELD_OUT = "held_out"
"""The name of the set to report on where the user's tables have none."""
_REPORTED, _SEED = 0.1, 2**63  # no seed of a run, or none of the rest would be chosen for tuning
_OPTION = "a --data.dir"
_KINDS = f"{', '.join(tables.SUFFIXES[:-1])} or {tables.SUFFIXES[-1]}"


def open_tables(folder: str | None, names: Sequence[str] | None = None) -> LabelledSource:
    """The task in the user's tables. With the `names` of the classes of a model: a folder of tables, or one
    table, to evaluate on or to predict; UserError for a label that the model does not know."""
    to_train = names is None
    paths, left_out = _find(folder, to_train)
    read, no_texts = _read(paths, names)
    _check_sides(list(read.values()))
    notes = [f"not read: {first_of(left_out)}"] if left_out else []
    notes += [f"not read: {paths[name].name}, which has no column text" for name in no_texts]
    notes += [note for table in read.values() for note in table.notes]
    notes += [f"{t.path.name}: columns not used: {first_of(t.unused)}" for t in read.values() if t.unused]
    of = "the classes of the model" if names is not None else f"the labels of {TRAIN}"
    if names is None:
        names = _names_of(read[TRAIN])
        notes += labels.class_notes(read[TRAIN].labels or (), read[TRAIN].lines, paths[TRAIN])
        for name in [name for name, table in read.items() if table.labels is None]:
            notes.append(
                f"{read.pop(name).path.name} has no labels: predict them with evaluate --predictions FILE "
                f"--data.dir {shlex.quote(str(paths[name]))}"
            )
        if len(read) < 2:
            if no_texts:
                raise next(iter(no_texts.values()))
            read[HELD_OUT], read[TRAIN] = _divided(read[TRAIN])
            notes.append(
                f"{len(read[HELD_OUT].texts):,} of the examples are held out to report on, since "
                f"{paths[TRAIN].name} is the only table with labels"
            )
    is_folder = local_folder(str(folder), _OPTION).is_dir()
    trains = to_train or (is_folder and TRAIN in read and read[TRAIN].labels is not None)
    if trains and TUNING in read:
        raise UserError(
            f"{read[TUNING].path} has the name of the part of {TRAIN} that is held out for tuning: rename "
            "it, such as to validation.tsv"
        )
    examples = {name: _examples(table, tuple(names), of) for name, table in read.items()}
    others = [name for name in read if not (trains and name == TRAIN)]
    files = {table.path.name: epath.Path(table.path) for table in read.values()}
    description = f"tables {', '.join(files)} in {folder}" if is_folder else f"{folder}"
    return LabelledSource(
        description="; ".join([description, *provenance.notes(files)]),
        origin={"kind": "files", "files": list(files)},
        files=files,
        label_names=tuple(names),
        reported=tuple(name for name in others if read[name].labels is not None),
        read=examples.__getitem__,
        trains=trains,
        unlabelled=tuple(name for name in others if read[name].labels is None),
        notes=tuple(notes),
    )


def holds_tables(location: str) -> bool:
    """Whether a path is a table, or a folder with tables in it."""
    path = local_folder(location, _OPTION)
    if path.is_dir():
        return any(_is_table(other) for other in path.iterdir())
    return tables.table_stem(path.name) is not None


def _is_table(path: Path) -> bool:
    return tables.table_stem(path.name) is not None and not path.name.startswith(".") and path.is_file()


def _find(location: str | None, to_train: bool) -> tuple[dict[str, Path], list[str]]:
    """The tables by name, and the names of other files."""
    wanted = f"a table ({_KINDS}) or a folder {f'with {TRAIN}.tsv' if to_train else 'of tables'}"
    if location is None:
        raise UserError(f"data.dir is not set: give --data.dir {wanted}")
    folder = local_folder(location, _OPTION)
    if not folder.is_dir():
        stem = tables.table_stem(folder.name)
        if stem is None or not folder.exists():
            what = "is neither a table nor a folder" if folder.exists() else "does not exist"
            raise UserError(f"data.dir {location} {what}: give --data.dir {wanted}")
        return {TRAIN if to_train else stem: folder}, []
    paths: dict[str, Path] = {}
    left_out = []
    for path in sorted(folder.iterdir()):
        stem = tables.table_stem(path.name)
        if stem is None or not _is_table(path):
            is_manifest = path.name == MANIFEST and provenance.manifest_of(folder) is not None
            if (stem is not None or not path.name.startswith(".")) and not is_manifest:
                left_out.append(path.name + ("/" if path.is_dir() else ""))
            continue
        if not is_plain_name(stem):
            raise UserError(f"{path} has a name that cannot be the name of a set: rename it")
        name = TRAIN if stem.casefold() == TRAIN else stem
        if paths.setdefault(name, path) != path:
            raise UserError(f"{folder} holds {name} twice, as {paths[name].name} and {path.name}: remove one")
    if not paths or (to_train and TRAIN not in paths):
        needed = f"{TRAIN}.tsv ({_KINDS})" if to_train else f"a table, {_KINDS}"
        raise UserError(
            f"data.dir {location} needs {needed}; it holds "
            f"{first_of([path.name for path in paths.values()] or left_out) or 'nothing'}"
        )
    return paths, left_out


def _read(
    paths: dict[str, Path], names: Sequence[str] | None
) -> tuple[dict[str, Table], dict[str, NoTextError]]:
    """The tables by name, and the errors of those without texts beside others that have them. The classes of
    the training table are labels in all tables."""
    read: dict[str, Table] = {}
    no_texts: dict[str, NoTextError] = {}
    for name in sorted(paths, key=lambda name: name != TRAIN):
        try:
            read[name] = read_table(paths[name], names)
        except NoTextError as error:
            if name == TRAIN:
                raise
            no_texts[name] = error
        if names is None:
            names = _names_of(read[TRAIN])
    if not read:
        raise next(iter(no_texts.values()))
    return {name: read[name] for name in paths if name in read}, no_texts


def _names_of(train: Table) -> tuple[str, ...]:
    if train.labels is None:
        raise UserError(f"{train.path} has no labels: it needs the columns {WANTED}, and a label in each row")
    return labels.class_names(train.labels, train.lines, train.path)


def _divided(table: Table) -> tuple[Table, Table]:
    """The examples to report on, and those to train on."""
    held_out = chosen(joined(table.texts), _REPORTED, _SEED)
    if held_out.all() or not held_out.any():
        raise UserError(
            f"{table.path} has too few examples to hold some out: put a table to report on beside it, such "
            "as validation.tsv"
        )
    return _rows(table, held_out), _rows(table, ~held_out)


def _rows(table: Table, those: Bool[np.ndarray, "rows"]) -> Table:
    def of(values: list[Any]) -> list[Any]:
        return list(itertools.compress(values, those))

    labels = None if table.labels is None else of(table.labels)
    return dataclasses.replace(table, texts=of(table.texts), labels=labels, lines=of(table.lines))


def _check_sides(read: list[Table]) -> None:
    """All tables have single texts, or all have pairs."""
    for table in read[1:]:
        if len(table.texts[0]) != len(read[0].texts[0]):
            single, pairs = sorted((read[0], table), key=lambda t: len(t.texts[0]))
            raise UserError(
                f"{pairs.path} has pairs of texts (a column text_b), but {single.path} has single texts: "
                "remove the column or the table"
            )


def _examples(table: Table, names: tuple[str, ...], of: str) -> Examples:
    if table.labels is None:
        return Examples(table.texts, [NO_LABEL] * len(table.texts))
    numbers = {name: number for number, name in enumerate(names)}
    for label, line in zip(table.labels, table.lines, strict=True):
        if label not in numbers:
            raise labels.unknown_label(label, names, tables.row_location(table.path, line), of)
    return Examples(table.texts, [numbers[label] for label in table.labels])


TABLES = LabelledDataSet("files", lambda config, names: open_tables(config.dir, names))
