"""What a public data set is to `prepare`: where its files are, and how their rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXT, LABELLED, PAIRS = "text", "labelled", "pairs"
KINDS = (TEXT, LABELLED, PAIRS)

Row = Mapping[str, Any] | None
"""The fields of a row (`text`; or `text`, perhaps `text_b`, and `label`; or the two languages), or None for a
row that is damaged in the published files and left out."""
RowReader = Callable[[Sequence[Path]], Iterator[Row]]


@dataclass(frozen=True)
class Part:
    """A part of a data set: its split, the files that hold it, and how their rows are read.

    `files` are names in an archive, or patterns of names in a repository of the Hugging Face hub.
    """

    split: str
    files: tuple[str, ...]
    rows: RowReader


@dataclass(frozen=True)
class Publication:
    """A published .zip or .tgz: the name of its file, its address, its digest if that is known."""

    name: str
    url: str
    parts: tuple[Part, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class PublicData:
    """An entry of the list in known_data.py.

    `repository` is one of the Hugging Face hub, with `parts` in it. `archives` are the published files, which
    together hold the same data. `licence` holds where the hub names none. `published` are the numbers of rows
    that the data set is known to have, by split. `options` are those of `train` that read it.
    """

    name: str
    kind: str
    repository: str
    parts: tuple[Part, ...]
    licence: str
    archives: tuple[Publication, ...] = ()
    languages: tuple[str, str] | None = None
    published: Mapping[str, int] = field(default_factory=dict)
    options: str = ""
