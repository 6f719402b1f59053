"""A file of lines that a run appends to: what cannot be written now, on a full disk, is written later.

All lines stay in memory too, a few hundred bytes each. On a disk they are appended, and a file that somebody
has cut, removed or replaced is written again. In a bucket, which cannot append, `flush` writes all of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from tlc_jax.core.errors import one_line
from tlc_jax.storage.paths import AnyPath, open_flags, write_text, writing

_OPEN = open_flags("O_RDWR", "O_CLOEXEC", "O_NOFOLLOW", "O_BINARY")


class MetricsLog:
    """Begins with `lines`, which replace what was at `path`; OSError where that fails.

    `warn` is called once when lines cannot be written, and once when they can be again.
    """

    def __init__(self, path: AnyPath, lines: list[str], warn: Callable[[str], None]):
        self._path, self._lines, self._warn = path, lines, warn
        self._failing = False
        self._kept, self._size, self._open = 0, 0, -1  # lines and bytes in the file; its descriptor
        self._folder = path.parent.stat() if isinstance(path, Path) else None
        self._lock = threading.Lock()  # a checkpoint is sealed in another thread
        self._write_whole()

    def add(self, line: str) -> None:
        """Write a line, now or when there is room again; never raises OSError."""
        with self._lock:
            self._lines.append(line)
            if not isinstance(self._path, Path):
                return
            try:
                self._write()
            except OSError as error:
                self._report(error)
            else:
                self._report(None)

    def flush(self) -> None:
        """Bring all lines to stable storage; OSError where that fails."""
        if not isinstance(self._path, Path):
            with self._lock:
                text, count = "".join(self._lines), len(self._lines)
            if count > self._kept:  # without the lock: training would wait for the network
                write_text(self._path, text)
                self._kept = count
            return
        with self._lock:
            self._write()
            file = os.dup(self._open)
        try:
            with writing(self._path):
                os.fsync(file)
        finally:
            os.close(file)

    def close(self) -> None:
        """Try for the last time to write what is left; what is lost is reported."""
        try:
            self.flush()
        except Exception as error:  # a bucket has errors of its own
            if lost := len(self._lines) - self._kept:
                self._warn(f"{lost} lines of {self._path} could not be written ({one_line(error)})")
        if self._open >= 0:
            with contextlib.suppress(OSError):  # of a network's disk; it was reported
                os.close(self._open)

    def _report(self, error: OSError | None) -> None:
        if error is not None and not self._failing:
            why = error.strerror or one_line(error)
            self._warn(
                f"{self._path} cannot be written ({why}): its lines are kept in memory until it can; "
                "training continues"
            )
        elif error is None and self._failing:
            self._warn(f"{self._path} is written again, no line is missing")
        self._failing = error is not None

    def _write(self) -> None:
        """Append the lines that are not in the file yet."""
        if not self._is_ours():
            self._write_whole()
        content, position = "".join(self._lines[self._kept :]).encode(), self._size
        with writing(self._path):
            os.ftruncate(self._open, position)  # a write that failed may have left a part of a line
            os.lseek(self._open, position, os.SEEK_SET)
            while content:
                written = os.write(self._open, content)
                position, content = position + written, content[written:]
        self._size, self._kept = position, len(self._lines)

    def _write_whole(self) -> None:
        if self._folder is not None and not os.path.samestat(self._folder, Path(self._path).parent.stat()):
            raise FileNotFoundError(errno.ENOENT, "its folder was replaced", str(self._path))
        text = "".join(self._lines)
        write_text(self._path, text)
        self._kept = len(self._lines)
        if isinstance(self._path, Path):
            old, self._size = self._open, len(text.encode())
            self._open = os.open(self._path, _OPEN)
            if old >= 0:
                os.close(old)

    def _is_ours(self) -> bool:
        """Whether the file is still the one that we wrote; a failed write may have made it longer."""
        try:
            status = os.fstat(self._open)
            return os.path.samestat(status, Path(self._path).stat()) and status.st_size >= self._size
        except OSError:
            return False
