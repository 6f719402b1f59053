"""What is to be prepared: which files, in which order, and the shard that each becomes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlc_jax.data.preparation.input_files import InputFile
from tlc_jax.data.preparation.public_data import LABELLED, PAIRS, RowReader

_MOST_SHARDS = 200  # a folder may hold a hundred thousand files


@dataclass(frozen=True)
class Request:
    """What the user asks for. `inputs` are files, folders, globs, archives or hf:// addresses; `columns` are
    fields with the columns to take for them."""

    name: str
    out: Path
    inputs: tuple[str, ...] = ()
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None


@dataclass(frozen=True)
class Unit:
    """Files that together become one shard."""

    shard: str
    split: str
    files: tuple[InputFile, ...]
    rows: RowReader

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def temporary(self) -> int:
        return sum(file.temporary for file in self.files)

    @property
    def work(self) -> int:
        """Bytes by which progress is measured: those that are downloaded, or else those that are read."""
        return sum(file.downloaded for file in self.files) or self.bytes

    @property
    def identity(self) -> str:
        """A digest that changes whenever the content of the files may have."""
        names = json.dumps([[file.name, file.identity] for file in self.files])
        return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before anything is fetched. `source` says where the files are."""

    kind: str
    units: tuple[Unit, ...]
    source: str
    licence: str
    revision: str | None = None
    languages: tuple[str, str] | None = None
    published: Mapping[str, int] = field(default_factory=dict)
    options: str = ""
    """Options of `train` that read the data."""
    notes: tuple[str, ...] = ()
    """What may be a mistake in the names of the files."""
    unused: set[str] = field(default_factory=set)
    """Columns that are not taken, as soon as the files are read."""


def units_of(
    kind: str, parts: Iterable[tuple[str, Sequence[InputFile], RowReader]], parallel: bool = False
) -> list[Unit]:
    """A shard for each file, or for neighbouring ones if there are many; of labelled text, or for `parallel`
    files, one for all files of a part."""
    together = parallel or kind == LABELLED
    groups = [
        (split, rows, group)
        for split, files, rows in parts
        for group in ([tuple(files)] if together else _grouped(files))
    ]
    counts = Counter(split for split, _, _ in groups)
    numbers = Counter[str]()
    units = []
    for split, rows, group in groups:
        number = f"{split}-{numbers[split]:05d}-of-{counts[split]:05d}"
        suffix = ".tsv.zst" if kind == PAIRS else ".jsonl.zst"
        units.append(Unit(f"{split if kind == LABELLED else number}{suffix}", split, group, rows))
        numbers[split] += 1
    return units


def _grouped(files: Sequence[InputFile]) -> list[tuple[InputFile, ...]]:
    """Each file alone or, if there are more than _MOST_SHARDS, neighbouring ones in groups."""
    if len(files) <= _MOST_SHARDS:
        return [(file,) for file in files]
    least = sum(file.bytes for file in files) / _MOST_SHARDS
    groups: list[list[InputFile]] = [[]]
    size = 0
    for file in files:
        if groups[-1] and size >= least:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.bytes
    return [tuple(group) for group in groups]
