"""Members of .zip and .tar archives, read without trusting what the archive says about itself."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
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
SUFFIXES = (".zip", *_OPENERS)
_BLOCK = 1 << 20
_ERRORS = (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, RuntimeError)


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def members(path: Path) -> dict[str, int]:
    """Names and sizes of the regular files in an archive, which is read to its end. UserError if it is
    damaged, expands suspiciously, or has a member that would be outside of the folder that it is unpacked
    in."""
    with _explained(path):
        if path.name.lower().endswith(".zip"):
            with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                names = {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}
        else:
            names = {}
            with _tar(path) as (archive, stream):
                for member in archive:
                    stopping.check()
                    if member.isreg():
                        names[member.name.removeprefix("./")] = member.size
                while stream.read(_BLOCK):  # the digest of a .gz is at its end
                    stopping.check()
    for name in names:
        if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
            raise UserError(
                f"{path} holds the file {printable(name, 120)!r}, whose name does not stay inside a folder: "
                "it is not the archive that was published; download it again"
            )
    return names


def unpack(path: Path, name: str, target: Path, most: int, advance: Callable[[float], None]) -> None:
    """Write one file of an archive, of at most `most` bytes, to `target`."""
    with _explained(path), writing(target), target.open("wb") as out, _member(path, name) as stream:
        left = min(most, most_expanded(path.stat().st_size))
        while block := stream.read(_BLOCK):
            stopping.check()
            left -= len(block)
            if left < 0:
                raise UserError(f"{path}: {name} is larger than it should be: download the archive again")
            out.write(block)
            advance(len(block))


@contextlib.contextmanager
def _member(path: Path, name: str) -> Iterator[Any]:
    if path.name.lower().endswith(".zip"):
        with open_regular(path) as file, zipfile.ZipFile(file) as archive, archive.open(name) as stream:
            yield stream
        return
    with _tar(path) as (archive, _):
        for member in archive:
            stopping.check()
            if member.isreg() and member.name.removeprefix("./") == name:
                yield archive.extractfile(member)
                return
    raise UserError(f"{path} has no {name} any more: do not change it while it is read")


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
