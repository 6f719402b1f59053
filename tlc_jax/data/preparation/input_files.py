"""A file that rows are read from: on this disk, in an archive on it, or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tlc_jax.core.errors import UserError
from tlc_jax.data.fingerprints import sha256_of
from tlc_jax.data.preparation.archives import Archive
from tlc_jax.data.preparation.hub import HubFile

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


@dataclass(frozen=True)
class Remote:
    """A file of the hub."""

    file: HubFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def bytes(self) -> int:
        return self.file.bytes

    @property
    def identity(self) -> str:
        return self.file.digest

    @property
    def temporary(self) -> int:
        return self.file.bytes

    @property
    def downloaded(self) -> int:
        return self.file.bytes

    def fetch(self, folder: Path, advance: Advance) -> Fetched:
        # named for its content: an earlier process may have asked for another data set
        target = folder / f"{(self.file.sha256 or self.file.git_sha1 or '')[:16]}-{Path(self.name).name}"
        if target.exists():  # an earlier process has checked it, but not used it
            advance(self.bytes)
        else:
            self.file.download(target, advance)
        digest = {"sha256": self.file.sha256} if self.file.sha256 else {"git_sha1": self.file.git_sha1 or ""}
        return Fetched(target, {"name": self.name, "bytes": self.bytes, **digest})
