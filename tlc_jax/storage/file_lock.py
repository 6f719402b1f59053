"""A lock on a local folder: a file in it that the system unlocks when the process ends, also by kill -9."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from filelock import lock_descriptor

from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.storage.paths import open_flags, open_folder

_MOST = 1000  # bytes that are read of another process's words
_OPEN = open_flags("O_RDWR", "O_CREAT", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY")
_ON_WINDOWS = os.name == "nt"
_WORDS_AT = 1 if _ON_WINDOWS else 0  # Windows locks the first byte against reading, flock none


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
        with contextlib.ExitStack() as opened:
            # on Windows no folder can be removed or replaced in which a file is open
            self._inside = None if _ON_WINDOWS else opened.enter_context(open_folder(folder))
            self._file = self._take()
            self._opened = opened.pop_all()

    def check(self) -> None:
        """SaveFailed if the folder was replaced since it was locked, or if another process holds the lock
        now."""
        if self._inside is not None and not _is_at(self._inside, self._folder):
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
        self._opened.close()

    def _take(self) -> int:
        file = os.open(self._path, _OPEN, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise UserError(f"{self._path} is not a regular file: remove it, or give another --workdir")
            _lock(file, self._folder)
            with contextlib.suppress(OSError):  # the words only inform, and a disk may be full
                os.ftruncate(file, 0)
                os.lseek(file, _WORDS_AT, os.SEEK_SET)
                os.write(file, self._holder.encode("utf-8", "replace"))
        except BaseException:
            os.close(file)
            raise
        return file


def _lock(file: int, folder: Path) -> None:
    """Lock an open file by flock, or by LockFileEx on Windows. `filelock.FileLock` itself would replace a
    missing flock by a file that outlives its process, and could not name the holder."""
    try:
        ours = lock_descriptor(file, blocking=False)
    except OSError as error:
        raise UserError(
            f"the file system of {folder} cannot lock files ({error.strerror}), so two jobs could write "
            "into one run: give a --workdir on a local disk or in a bucket, or mount it with locks (Lustre: "
            "-o flock)"
        ) from error
    if not ours:
        os.lseek(file, _WORDS_AT, os.SEEK_SET)
        raise Taken(os.read(file, _MOST).decode("utf-8", "replace").strip())


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=True))
    except OSError:
        return False
