"""A file that rows are read from: on this disk, in an archive on it, or elsewhere (hub.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tlc_jax.core.errors import UserError
from tlc_jax.data.fingerprints import sha256_of
from tlc_jax.data.preparation.archives import Archive

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Fetched:
    """A local file with the content, and what the manifest says of where it came from."""

    path: Path
    record: dict[str, str | int]


class InputFile(Protocol):
    """`identity` changes whenever the content may have. `bytes` are those of the content, `temporary` those
    that `fetch` writes to this disk, `downloaded` those that it advances by."""

    @property
    def name(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def identity(self) -> str: ...
    @property
    def temporary(self) -> int: ...
    @property
    def downloaded(self) -> int: ...

    def fetch(self, folder: Path, advance: Advance) -> Fetched:
        """The content on this disk, in `folder` if it was not there before."""
        ...


@dataclass(frozen=True)
class LocalFile:
    path: Path
    name: str
    temporary: int = 0
    downloaded: int = 0

    @property
    def bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def identity(self) -> str:
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def fetch(self, folder: Path, advance: Advance) -> Fetched:
        before = self.identity
        record = {"name": self.name, "bytes": self.bytes, "sha256": sha256_of(self.path)}
        if self.identity != before:
            raise UserError(
                f"{self.path} changes while it is read: run the same command again when nobody writes there"
            )
        return Fetched(self.path, record)


@dataclass(frozen=True)
class Member:
    """A file in an archive whose digest is known."""

    archive: Archive
    name: str
    bytes: int
    downloaded: int = 0

    @property
    def identity(self) -> str:
        return self.archive.sha256

    @property
    def temporary(self) -> int:
        return self.bytes

    def fetch(self, folder: Path, advance: Advance) -> Fetched:
        name = hashlib.sha256(f"{self.archive.sha256} {self.name}".encode()).hexdigest()[:16]
        target = folder / f"{name}-{self.name.rpartition('/')[2]}"  # none that the archive chooses
        self.archive.unpack(self.name, target, self.bytes)
        path = self.archive.path
        record = {"name": path.name, "bytes": path.stat().st_size, "sha256": self.archive.sha256}
        return Fetched(target, record)
