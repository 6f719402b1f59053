"""A lock on a local folder: a file in it that the system unlocks when the process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from tlc_jax.core.errors import SaveFailed, UserError

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_MOST = 1000  # bytes that are read of another process's words
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class Taken(Exception):
    """Another process holds the lock; `holder` is how it describes itself."""

    def __init__(self, holder: str):
        super().__init__(holder)
        self.holder = holder


class FileLock:
    """Locked from construction until `close`. Taken if another process holds the lock; UserError if the
    file system has no locks, since two jobs could then write into one folder."""

    def __init__(self, folder: Path, name: str, holder: str):
        self._folder, self._path, self._holder = folder, folder / name, holder
        self._inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._file = self._take()
        except BaseException:
            os.close(self._inside)
            raise

    def check(self) -> None:
        """SaveFailed if the folder was replaced since it was locked, or if another process holds the lock
        now."""
        if not _is_at(self._inside, self._folder):
            raise SaveFailed(
                f"{self._folder} was removed or replaced while its run was active: nothing more is written "
                "there; restore it and run the same command again, or start again in a new --workdir"
            )
        if _is_at(self._file, self._path):
            return
        old = self._file  # only the lock file was removed
        try:
            self._file = self._take()
        except (Taken, OSError, UserError) as error:
            raise SaveFailed(
                f"{self._path} was removed and cannot be taken again ({error}): nothing more is written to "
                f"{self._folder}"
            ) from error
        os.close(old)

    def close(self) -> None:
        os.close(self._file)
        os.close(self._inside)

    def _take(self) -> int:
        file = os.open(self._path, _OPEN, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UserError(f"{self._path} is not a regular file: remove it, or give another --workdir")
            _lock(file, self._folder)
            with contextlib.suppress(OSError):  # the words only inform, and a disk may be full
                os.ftruncate(file, 0)
                os.pwrite(file, self._holder.encode("utf-8", "replace"), 0)
        except BaseException:
            os.close(file)
            raise
        return file


def _lock(file: int, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise Taken(os.pread(file, _MOST, 0).decode("utf-8", "replace").strip()) from error
        raise UserError(
            f"the file system of {folder} cannot lock files ({error.strerror}), so two jobs could write "
            "into one run: give a --workdir on a local disk or in a bucket, or mount it with locks (Lustre: "
            "-o flock)"
        ) from error


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=True))
    except OSError:
        return False
