"""Paths and files, local and in buckets (gs://), by the same few functions.

A bucket has no folders, cannot rename and cannot append: there, an object is written as a whole instead.
Buckets need the extra `gcs`, not TensorFlow.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import math
import operator
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from etils import epath
from filelock import lock_descriptor

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.storage.network import not_answering

AnyPath = Path | epath.Path
PathT = TypeVar("PathT", bound=AnyPath)
_BLOCK = 1 << 22
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)  # of file systems without hard links
_TEMPORARY = ".tmp"
_TOKEN = 6  # bytes of a random name
_STORE, _STORE_PATIENCE = "https://storage.googleapis.com", 5.0  # seconds
_answers: dict[str, tuple[str | None, float]] = {}
"""By address of a store: why it gave no answer, if it gave none, and when it was asked."""
_MOMENT = 60.0  # seconds for which a temporary file or folder is kept even if it looks abandoned


class NoNetwork(UserError):
    """The object store gives no answer."""


def parse_path(text: str | os.PathLike[str]) -> AnyPath:
    """A local path, or one in a bucket; UserError if the bucket cannot be reached:
    NoNetwork after seconds if it gives no answer at all."""
    text = os.fspath(text)
    if not re.match("(?i)gs:|[a-z0-9.+-]+:/", text):
        return local_folder(text)
    if not re.match("gs://[^/]", text):
        raise UserError(f"{text} is neither a local path nor gs://BUCKET/FOLDER")
    if odd := re.search(r"[\[\]*?#\x00-\x1f\x7f]", text):
        raise UserError(
            f"{text!r} contains {odd[0]!r}, which libraries for object stores read as a pattern: "
            "choose a name without [ ] * ? and #"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"to reach {text} install tlc_jax with its extra gcs: pip install 'tlc-jax[gcs]'")
    from fsspec.config import conf

    # other processes write there too: a cached listing may be out of date
    conf["gcs"] = {"use_listings_cache": False}
    _check_answers(text)
    path = epath.Path(text.rstrip("/"))
    try:
        path.exists()
    except Exception as error:  # of the network, of credentials, of gcsfs
        reason = one_line(error)
        raise UserError(f"{text} cannot be reached ({reason}): check network and credentials") from error
    return path


def _check_answers(text: str) -> None:
    """NoNetwork unless the object store answers, or has answered this process before."""
    url = os.environ.get("STORAGE_EMULATOR_HOST") or _STORE
    reason, asked = _answers.get(url, ("", -math.inf))
    if reason is not None and time.monotonic() - asked > _STORE_PATIENCE:
        problem = not_answering(url if "://" in url else f"http://{url}", _STORE_PATIENCE, insist=True)
        reason = ": ".join(problem) if problem else None
        _answers[url] = reason, time.monotonic()
    if reason is not None:
        raise NoNetwork(f"{text} cannot be reached ({reason}): check the network")


def local_folder(text: str, named: str = "a path") -> Path:
    """A local path with a leading `~` expanded; UserError if there is no home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        if text.partition("/")[0] != "~":  # no such user, so a name
            return Path(text)
        raise UserError(
            f"{text} is in the home folder, but there is none (HOME is not set): set HOME, or give {named} "
            "that does not start with ~"
        ) from None


def is_remote(path: AnyPath) -> bool:
    """Whether the path is in a bucket."""
    return not isinstance(path, Path)


def absolute(path: AnyPath) -> AnyPath:
    """The absolute path without links and `..`, which array stores refuse."""
    return path.resolve() if isinstance(path, Path) else path


def make_folder(path: AnyPath) -> None:
    """Make a folder and its parents; UserError if that fails. A bucket needs no folders."""
    if not isinstance(path, Path):
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {path} cannot be made ({error.strerror}): give another path") from error


@contextlib.contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Name the written file in any OSError of the block: those of `write` and of numpy have no file name."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
            error.strerror = error.strerror or one_line(error)
        raise


@contextlib.contextmanager
def new_folder(folder: PathT, *, exclusive: bool = False) -> Iterator[PathT]:
    """Yield a temporary folder that is renamed to `folder` when the block succeeds and removed otherwise.

    If another process has made `folder` meanwhile, that one stays (in a cache both are equal), or a UserError
    is raised if this one is `exclusive`. In a bucket `folder` itself is yielded: the file written last must
    show that it is complete.
    """
    if not isinstance(folder, Path):
        yield folder
        return
    make_folder(folder.parent)
    remove_leftovers(folder.parent)
    temporary = _temporary(folder)
    make_folder(temporary)
    with locked_folder(temporary):
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
    """Remove temporary files and folders of killed processes from a folder. A running process keeps a lock
    on its temporary folder; files take less than a moment to write."""
    for other in folder.glob(f"*.{'[0-9a-f]' * 2 * _TOKEN}{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - other.stat().st_mtime < _MOMENT:
                continue
            if not other.is_dir():
                other.unlink()
            else:
                with locked_folder(other) as abandoned:
                    if abandoned:  # where folders cannot be locked, they stay
                        shutil.rmtree(other, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A random name: process numbers may be equal in two containers."""
    return path.with_name(f"{path.name}.{secrets.token_hex(_TOKEN)}{_TEMPORARY}")


def open_flags(*names: str) -> int:
    """Flags of `os.open` by their names; those that a system does not have (Windows) are left out."""
    return functools.reduce(operator.or_, (getattr(os, name, 0) for name in names))


@contextlib.contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """A descriptor of a folder itself, to lock it or to name it whatever its path."""
    descriptor = os.open(folder, open_flags("O_RDONLY", "O_DIRECTORY", "O_CLOEXEC"))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[bool | None]:
    """Lock a folder itself until the block or the process ends. Yields False if another process has locked
    it, None if it cannot be locked: on some network file systems, and on Windows."""
    with contextlib.ExitStack() as held:
        ours = None
        with contextlib.suppress(OSError):
            ours = lock_descriptor(held.enter_context(open_folder(folder)), blocking=False)
        yield ours


def remove_folder(path: AnyPath, last: str | None = None) -> None:
    """Remove a folder with its content, the file `last` after all others."""
    for other in path.iterdir():
        if other.name == last:
            continue
        if not other.is_dir():
            other.unlink()
        elif isinstance(other, Path):
            shutil.rmtree(other)
        else:
            other.rmtree()
    if isinstance(path, Path):
        shutil.rmtree(path)
    elif last is not None:
        (path / last).unlink(missing_ok=True)


def move_folder(source: AnyPath, target: AnyPath) -> None:
    """Rename a folder, replacing `target`; in a bucket, file by file."""
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
    names = []
    for path in (folder / inside).iterdir():
        name = f"{inside}{path.name}"
        linked = isinstance(path, Path) and path.is_symlink()  # possibly to a parent
        names += files(folder, f"{name}/") if path.is_dir() and not linked else [name]
    return names


def copy_file(source: AnyPath, target: AnyPath) -> None:
    """Copy a file between any two paths."""
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, _BLOCK)


def write_text(path: AnyPath, text: str) -> None:
    """Write a file atomically."""
    if not isinstance(path, Path):
        path.write_bytes(text.encode())  # an object appears once it is complete
        return
    temporary = _temporary(path)
    try:
        with writing(path):
            temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_file(path: AnyPath, text: str) -> bool:
    """Write a file that does not exist yet, atomically: of several processes one gets True. Makes its folder
    if need be."""
    if not isinstance(path, Path):
        import fsspec

        try:
            fsspec.filesystem("gcs").pipe_file(str(path), text.encode(), mode="create")
        except FileExistsError:
            return False
        return True
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with writing(path):
            temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)  # unlike a rename it replaces nothing
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _create_in_place(path, text)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_in_place(path: Path, text: str) -> None:
    """Write a new file where it stays; one that cannot be written whole is removed again."""
    descriptor = os.open(path, open_flags("O_WRONLY", "O_CREAT", "O_EXCL", "O_CLOEXEC"), 0o666)
    try:
        with writing(path), os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        path.unlink()
        raise


def write_bytes(path: AnyPath, content: bytes) -> None:
    """Write a file and, if need be, make its folder."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        path.write_bytes(content)
