"""Files in .zip and .tar archives, read without trusting what the archive says about itself."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.data.lines import BoundedStream, most_expanded
from tlc_jax.storage.paths import writing
from tlc_jax.storage.untrusted import one_reason, open_regular

_OPENERS: dict[str, Callable[[Any], Any]] = {
    ".tar": lambda file: file,
    ".tgz": gzip.open,
    ".tar.gz": gzip.open,
    ".tar.bz2": bz2.BZ2File,
    ".tar.xz": lzma.LZMAFile,
}
_SUFFIXES = (".zip", *_OPENERS)
_BLOCK = 1 << 20
_ERRORS = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, RuntimeError)


def is_archive(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


class Archive:
    """An archive with its digest. It stays open between two files: a .tar that is unpacked in its order is
    read once, however many there are."""

    def __init__(self, path: Path, sha256: str):
        self.path, self.sha256 = path, sha256
        self._is_zip = path.name.lower().endswith(".zip")
        self._following: Iterator[tuple[str, Any]] = iter(())

    def members(self) -> dict[str, int]:
        """Names and sizes of the regular files, after reading to the end. UserError if the archive is
        damaged, expands suspiciously, or has a file that would be outside of the folder that it is unpacked
        in."""
        with _explained(self.path):
            names = self._zip_members() if self._is_zip else self._tar_members()
        for name in names:
            if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
                raise UserError(
                    f"{self.path} holds the file {printable(name, 120)!r}, whose name does not stay inside a "
                    "folder: it is not the archive that was published; download it again"
                )
        return names

    def unpack(self, name: str, target: Path, size: int) -> None:
        """Write one file, of at most `size` bytes, to `target`."""
        packed = self.path.stat().st_size
        if size > most_expanded(packed):
            raise UserError(
                f"{self.path}: {name} expands to {size / 1e6:,.0f} MB, {size // packed:,} times the size of "
                "the archive, which no text does: if that is right, unpack it and give --input the folder"
            )
        with _explained(self.path), writing(target), target.open("wb") as out, self._opened(name) as stream:
            left = size
            while block := stream.read(_BLOCK):
                stopping.check()
                left -= len(block)
                if left < 0:
                    raise UserError(
                        f"{self.path}: {name} is larger than it should be: download the archive again"
                    )
                out.write(block)

    def _zip_members(self) -> dict[str, int]:
        infos = (info for info in self._zip.infolist() if not info.is_dir())
        return {info.filename: info.file_size for info in infos if not stat.S_ISLNK(info.external_attr >> 16)}

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(open_regular(self.path))

    def _tar_members(self) -> dict[str, int]:
        names = {}
        with _tar(self.path) as (archive, stream):
            for member in archive:
                stopping.check()
                if member.isreg():
                    names[_name_of(member)] = member.size
            while stream.read(_BLOCK):  # the digest of a .gz is at its end
                stopping.check()
        return names

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        if self._is_zip:
            with self._zip.open(name) as stream:
                yield stream
            return
        for files in (self._following, _tar_files(self.path)):  # behind the last file, or from the beginning
            self._following = files
            for other, stream in files:
                if other == name:
                    yield stream
                    return
        raise UserError(f"{self.path} has no {name} any more: do not change it while it is read")


def _tar_files(path: Path) -> Iterator[tuple[str, Any]]:
    """Names and streams of the regular files of a .tar in its order; a stream is read before the next one."""
    with _tar(path) as (archive, _):
        for member in archive:
            stopping.check()
            if member.isreg():
                yield _name_of(member), archive.extractfile(member)


def _name_of(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix("./")


@contextlib.contextmanager
def _tar(path: Path) -> Iterator[tuple[tarfile.TarFile, BoundedStream]]:
    """A .tar that is read once from its beginning to its end, and its decompressed stream."""
    opener = next(opener for suffix, opener in _OPENERS.items() if path.name.lower().endswith(suffix))
    with open_regular(path) as file, contextlib.closing(opener(file)) as raw:
        stream = BoundedStream(path, raw, most_expanded(path.stat().st_size))
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
            yield archive, stream


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """UserError for an archive that is damaged; errors of the disk that is written to keep their name."""
    try:
        yield
    except _ERRORS as error:
        if isinstance(error, OSError) and error.filename is not None and str(error.filename) != str(path):
            raise
        raise UserError(
            f"{path} is damaged or incomplete ({one_reason(error) or type(error).__name__}): download it "
            "again"
        ) from error
