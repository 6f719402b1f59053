"""What a source of running text gives, wherever it comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from etils import epath

from tlc_jax.data.fingerprints import identity_of


@dataclass(frozen=True)
class TextSource:
    """A named body of text that can be read more than once.

    `documents` yields strings whose lines are sentences or paragraphs, in a fixed order. `files` maps a name
    that does not depend on where the data are to the path that is read, so that the identity of the text is
    known before it is parsed; `notes` say what is left out.
    """

    name: str
    origin: dict[str, Any]
    files: dict[str, epath.Path]
    documents: Callable[[], Iterator[str]]
    notes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return "; ".join([self.name, *self.notes])

    def identity(self) -> str:
        return identity_of(self.files)

    def stamp(self) -> list[tuple[int, int]]:
        """Sizes and modification times of the files: if they differ later, somebody has written there."""
        statuses = [os.stat(path) for path in self.files.values() if "://" not in os.fspath(path)]  # noqa: PTH116
        return [(status.st_size, status.st_mtime_ns) for status in statuses]
