"""Labelled text: GLUE's SST-2 and MNLI from TFDS, the user's own tables, tasks made of installed documents.

A source has a split 'train' and one or more reported sets, which training never reads. Label names come
from the data and are stored with a run: GLUE's order is not fairseq's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.sources import identity_of, read_lines
from tlc_jax.data.tfds_source import tfds_examples, tfds_files, tfds_folder, tfds_string

# dataset -> (fields of the texts, reported sets)
GLUE = {
    "glue/sst2": (("sentence",), ("validation",)),
    "glue/mnli": (("premise", "hypothesis"), ("validation_matched", "validation_mismatched")),
}
SUFFIXES = (".tsv", ".jsonl")


@dataclass(frozen=True)
class Examples:
    """Texts, or pairs of texts, and the index of each one's label."""

    texts: list[tuple[str, ...]]
    labels: list[int]


@dataclass(frozen=True)
class LabelledSource:
    """A classification task that can be read more than once, split by split."""

    description: str
    origin: dict[str, Any]
    files: dict[str, epath.Path]
    label_names: tuple[str, ...]
    reported: tuple[str, ...]
    read: Callable[[str], Examples]

    def identity(self) -> str:
        return identity_of(self.files)


def open_labelled(config: DataConfig) -> LabelledSource:
    """The task that `config` names; UserError if it is not there."""
    if config.name in GLUE:
        return _glue(config)
    if config.name == "files":
        return _tables(config.dir)
    if config.name.startswith("docs/"):
        from tlc_jax.data.doc_tasks import doc_task

        return doc_task(config.name)
    known = ", ".join(["files", *GLUE, "docs/package", "docs/pair"])
    raise UserError(f"data.name {config.name} is no classification task: give one of {known}")


def _glue(config: DataConfig) -> LabelledSource:
    fields, reported = GLUE[config.name]
    folder = tfds_folder(config.name, config.dir)
    files: dict[str, epath.Path] = {}
    for split in ("train", *reported):
        files |= tfds_files(config.name, folder, split)

    def read(split: str) -> Examples:
        texts, labels = [], []
        for number, example in enumerate(tfds_examples(folder, split)):
            texts.append(tuple(tfds_string(example, field, number, folder) for field in fields))
            labels.append(int(example["label"]))
        return Examples(texts, labels)

    return LabelledSource(
        description=f"TFDS {config.name} {folder.name} in {folder}",
        origin={"kind": "tfds", "name": config.name, "version": folder.name},
        files=files,
        label_names=tuple((folder / "label.labels.txt").read_text().split()),
        reported=reported,
        read=read,
    )


# --- the user's tables -----------------------------------------------------------------------------


def _tables(where: str | None) -> LabelledSource:
    """A folder with train.tsv or train.jsonl; every other table in it is a reported set.

    Fields: `text`, `label` and, for pairs, `text_b`. A TSV names them in its first line and knows no quotes.
    """
    if where is None:
        raise UserError("data.dir is not set: give --data.dir a folder with train.tsv or train.jsonl")
    folder = Path(where).expanduser()
    tables: dict[str, Path] = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.suffix in SUFFIXES and tables.setdefault(path.stem, path) != path:
            raise UserError(f"{folder} holds {path.stem} twice, as .jsonl and as .tsv: remove one")
    if "train" not in tables or len(tables) < 2:
        raise UserError(
            f"data.dir {where} needs train.tsv or train.jsonl and at least one more table to report on; it "
            f"holds {', '.join(path.name for path in tables.values()) or 'none'}"
        )
    names = tuple(sorted({label for _, label in _rows(tables["train"])}))
    if len(names) < 2:
        raise UserError(f"{tables['train']} has {len(names)} label(s), at least 2 are needed")

    def read(split: str) -> Examples:
        texts, labels = [], []
        for number, (text, label) in enumerate(_rows(tables[split]), start=1):
            if label not in names:
                raise UserError(f"{tables[split]} row {number}: label {label!r} never occurs in train")
            texts.append(text)
            labels.append(names.index(label))
        return Examples(texts, labels)

    return LabelledSource(
        description=f"tables {', '.join(path.name for path in tables.values())} in {where}",
        origin={"kind": "files", "files": [path.name for path in tables.values()]},
        files={path.name: epath.Path(path) for path in tables.values()},
        label_names=names,
        reported=tuple(name for name in tables if name != "train"),
        read=read,
    )


def _rows(path: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """(texts, label) of each row of a table."""
    header: list[str] | None = None
    for number, line in enumerate(read_lines(path), start=1):
        if path.suffix == ".tsv" and header is None:
            header = line.split("\t")
            continue
        if not line.strip():
            continue
        row = dict(zip(header, line.split("\t"), strict=False)) if header else _object(path, number, line)
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or label is None:
            fields = ", ".join(row) or "nothing"
            raise UserError(f"{path} line {number} has no text and label: it has {fields}")
        pair = (text, row["text_b"]) if "text_b" in row else (text,)
        yield pair, str(label)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path} line {number} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}
