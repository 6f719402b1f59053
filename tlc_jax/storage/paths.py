"""Places where runs live: local folders, and gs:// ones by the same few words.

A bucket has no folders, cannot rename and cannot append: what rests on those locally rests on whole objects
there. Needs the extra `gcs`, not TensorFlow.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from etils import epath

from tlc_jax.core.errors import UserError, one_line

AnyPath = Path | epath.Path
Where = TypeVar("Where", bound=AnyPath)
_BLOCK = 1 << 22
_TEMPORARY = ".tmp"
_TOKEN = 6  # bytes of a random name
_MOMENT = 60.0  # seconds that a temporary file or folder is left alone, whoever made it


def parse_path(text: str | os.PathLike[str]) -> AnyPath:
    """A local path, or one in a bucket; UserError if that cannot be reached from here."""
    text = os.fspath(text)
    if not re.match("(?i)gs:|[a-z0-9.+-]+:/", text):
        return local_folder(text)
    if not re.match("gs://[^/]", text):
        raise UserError(f"{text} is neither a local path nor gs://BUCKET/FOLDER")
    if odd := re.search(r"[\[\]*?#\x00-\x1f\x7f]", text):
        raise UserError(
            f"{text!r} holds {odd[0]!r}, which libraries for object stores take for a pattern: take a name "
            "without [ ] * ? and #"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"to reach {text} install tlc_jax with its extra gcs: pip install 'tlc-jax[gcs]'")
    from fsspec.config import conf

    # others write there too: what was listed once may be out of date
    conf["gcs"] = {"use_listings_cache": False}
    where = epath.Path(text.rstrip("/"))
    try:
        where.exists()
    except Exception as error:  # of networks, of credentials, of gcsfs
        why = one_line(error)
        raise UserError(f"{text} cannot be reached ({why}): look at network and credentials") from error
    return where


def local_folder(text: str, named: str = "a path") -> Path:
    """A local path, in which a `~` at the beginning is the home folder. UserError where there is none."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        if text.partition("/")[0] != "~":  # nobody's home, so a name
            return Path(text)
        raise UserError(
            f"{text} is in the home folder, but there is none (HOME is not set): set HOME, or give {named} "
            "that does not begin with ~"
        ) from None


def is_remote(where: AnyPath) -> bool:
    return not isinstance(where, Path)


def absolute(where: AnyPath) -> AnyPath:
    """The same place from wherever, without links and `..`, which stores of arrays refuse."""
    return where.resolve() if isinstance(where, Path) else where


def make_folder(where: AnyPath) -> None:
    """Makes a folder and those above it; UserError where that cannot be. A bucket needs none."""
    if not isinstance(where, Path):
        return
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder {where} cannot be made ({error.strerror}): name another place"
        ) from error


@contextlib.contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """An OSError inside names the file that is written: those of `write` and of numpy name none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
            error.strerror = error.strerror or one_line(error)
        raise


@contextlib.contextmanager
def new_folder(folder: Where, *, exclusive: bool = False) -> Iterator[Where]:
    """A temporary folder that becomes `folder` when the block ends well, and disappears otherwise.

    Where another process made `folder` meanwhile, that one stays: the same thing, as in a cache, or, if this
    is `exclusive`, a UserError. In a bucket it is `folder` itself: what is written last must tell whether it
    is whole.
    """
    if not isinstance(folder, Path):
        yield folder
        return
    make_folder(folder.parent)
    remove_leftovers(folder.parent)
    temporary = _temporary(folder)
    make_folder(temporary)
    with _held(temporary):
        try:
            yield temporary
            try:
                temporary.rename(folder)  # an empty folder gives way
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if exclusive:
                    raise UserError(
                        f"{folder} was made by another process meanwhile: give a new folder"
                    ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes have left in a folder of what they were making. Who is at work keeps a
    lock on its folder; files are written in moments."""
    for other in folder.glob(f"*.{'[0-9a-f]' * 2 * _TOKEN}{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime < _MOMENT:
                continue
            if not other.is_dir():
                other.unlink()
            elif _abandoned(other):
                shutil.rmtree(other, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A name that no other process takes: process numbers are equal in two containers."""
    return path.with_name(f"{path.name}.{secrets.token_hex(_TOKEN)}{_TEMPORARY}")


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A lock on the folder itself, which goes with its process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # file systems without locks: leftovers are not removed there
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _abandoned(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody works there, or nobody can tell
        return False
    finally:
        os.close(descriptor)
    return True


def remove_folder(where: AnyPath, last: str | None = None) -> None:
    """Removes a folder and all in it; the file `last` goes after all others."""
    for other in where.iterdir():
        if other.name == last:
            continue
        if not other.is_dir():
            other.unlink()
        elif isinstance(other, Path):
            shutil.rmtree(other)
        else:
            other.rmtree()
    if isinstance(where, Path):
        shutil.rmtree(where)
    elif last is not None:
        (where / last).unlink(missing_ok=True)


def move_folder(source: AnyPath, target: AnyPath) -> None:
    """Renames a folder; what was at `target` is gone. In a bucket: file by file."""
    if target.exists():
        remove_folder(target)
    make_folder(target.parent)
    if isinstance(source, Path):
        source.rename(target)
        return
    for name in files(source):
        copy_file(source / name, target / name)
    remove_folder(source)


def files(folder: AnyPath, inside: str = "") -> list[str]:
    """Names of all files below a folder, relative to it."""
    found = []
    for path in (folder / inside).iterdir():
        name = f"{inside}{path.name}"
        linked = isinstance(path, Path) and path.is_symlink()  # perhaps to a folder above
        found += files(folder, f"{name}/") if path.is_dir() and not linked else [name]
    return found


def copy_file(source: AnyPath, target: AnyPath) -> None:
    """Copies one file, from anywhere to anywhere."""
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, _BLOCK)


def write_text(where: AnyPath, text: str) -> None:
    """Writes a whole file or none."""
    if not isinstance(where, Path):
        where.write_bytes(text.encode())  # an object appears when all of it is there
        return
    temporary = _temporary(where)
    try:
        with writing(where):
            temporary.write_text(text, encoding="utf-8")
        temporary.replace(where)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(where: AnyPath, content: bytes) -> None:
    """Writes a file, in a folder that need not be there."""
    if isinstance(where, Path):
        where.parent.mkdir(parents=True, exist_ok=True)
    with writing(where):
        where.write_bytes(content)


class TextLog:
    """A file that lines are added to. In a bucket it is written again as a whole by `flush`."""

    def __init__(self, where: AnyPath, text: str):
        self._where, self._parts, self._kept = where, [text], 1
        write_text(where, text)
        self._file = where.open("a", encoding="utf-8") if isinstance(where, Path) else None

    def add(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        else:
            self._parts.append(line)

    def flush(self) -> None:
        """What was added until now is there to stay."""
        parts = len(self._parts)
        if self._file is None and parts > self._kept:
            write_text(self._where, "".join(self._parts[:parts]))
            self._kept = parts

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()
