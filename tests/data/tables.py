"""Tables of a user, written for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tlc_jax.config import DataConfig
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.labelled.labelled_source import LabelledSource

TRAIN = "text\tlabel\na\tx\nb\ty\nc\tx\nd\ty\n"
OTHER = "text\tlabel\ne\tx\n"


def tables(folder: Path, **files: str) -> LabelledSource:
    """The task of the tables train and v, where not given otherwise by name_suffix=content."""
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    for name, text in (("train", TRAIN), ("v", OTHER)):
        if not list(folder.glob(f"{name}.*")):
            (folder / f"{name}.tsv").write_text(text)
    return open_labelled(DataConfig(dir=str(folder)))


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(labels: Sequence[object]) -> str:
    return "text\tlabel\n" + "".join(f"text number {i}\t{label}\n" for i, label in enumerate(labels))


def of_model(path: Path, *names: str) -> LabelledSource:
    """The task of a table for a model that was trained on the classes `names`."""
    return open_labelled(DataConfig(dir=str(path)), names or ("y", "x", "z"))
