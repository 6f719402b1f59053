"""What a source of sentence pairs gives, wherever it comes from, and the sets that a config names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from etils import epath

from tlc_jax.data.fingerprints import identity_of
from tlc_jax.data.provenance import notes

Pair = tuple[str, str]
SUFFIXES = (".tsv", ".tsv.gz", ".tsv.zst", ".csv", ".csv.gz", ".csv.zst", ".parquet")
TRAIN, HELD_OUT = "train", "held_out"


@dataclass(frozen=True)
class PairSource:
    """Pairs that can be read more than once, always in one order, unchanged but for line ends.

    `name` is what the user wrote, `share` the number behind its '=', if any; `files` maps names that do not
    depend on where the data are to the paths that are read.
    """

    name: str
    share: float | None
    files: dict[str, epath.Path]
    pairs: Callable[[], Iterator[Pair]]

    @property
    def label(self) -> str:
        """A name without slashes, for metrics and files."""
        name = self.name
        suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
        name = name[: len(name) - len(suffix)]
        last = name if ":" in name else name.rpartition("/")[2]
        return re.sub(r"[^\w.-]+", "_", last).strip("_.") or "all"


@dataclass(frozen=True)
class PairSets:
    """Sources by what they are for."""

    train: list[PairSource]
    validation: list[PairSource]
    test: list[PairSource]

    def identity(self) -> dict[str, Any]:
        """What the pairs depend on, wherever the files are."""
        return {
            part: [[source.name, source.share, identity_of(source.files)] for source in sources]
            for part, sources in vars(self).items()
        }

    @property
    def description(self) -> str:
        return "; ".join([", ".join(source.name for source in self.train), *notes(self.files)])

    @property
    def files(self) -> dict[str, epath.Path]:
        """Those of all sources, each by the names of its source and its own."""
        sources = [*self.train, *self.validation, *self.test]
        return {f"{source.name}: {name}": path for source in sources for name, path in source.files.items()}
