"""A file of lines that a run adds to, whatever its disk does: what cannot be written now is written later.

All lines stay in memory too, a few hundred bytes each. On a disk they are appended, and what another hand did
to the file (a part cut off, another file in its place) is made good; in a bucket, which cannot append, the
whole is written again by `flush`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

from tlc_jax.core.errors import one_line
from tlc_jax.storage.paths import AnyPath, write_text, writing


class MetricsLog:
    """Begins with the whole `lines`, which replace what was at `path`; OSError if that cannot be.

    `warn` is told once when lines cannot be written, and once when they are.
    """

    def __init__(self, path: AnyPath, lines: list[str], warn: Callable[[str], None]):
        self._path, self._lines, self._warn = path, lines, warn
        self._failing = False
        self._kept, self._size, self._open = 0, 0, -1  # lines and bytes that are there; the open file
        self._folder = path.parent.stat() if isinstance(path, Path) else None
        self._turn = threading.Lock()  # a checkpoint is sealed in a thread of its own
        self._write_whole()

    def add(self, line: str) -> None:
        """Never raises OSError: the line is there at once, or when there is room again."""
        with self._turn:
            self._lines.append(line)
            if not isinstance(self._path, Path):
                return
            try:
                self._write()
            except OSError as error:
                self._note(error)
            else:
                self._note(None)

    def flush(self) -> None:
        """What was added until now outlives this process and its machine. OSError if it does not."""
        if not isinstance(self._path, Path):
            with self._turn:
                text, count = "".join(self._lines), len(self._lines)
            if count > self._kept:  # not in turn: training would wait for the network
                write_text(self._path, text)
                self._kept = count
            return
        with self._turn:
            self._write()
            file = os.dup(self._open)
        try:
            with writing(self._path):
                os.fsync(file)
        finally:
            os.close(file)

    def close(self) -> None:
        """The last try to write what is left; what is lost is told."""
        try:
            self.flush()
        except Exception as error:  # a bucket has errors of its own
            if lost := len(self._lines) - self._kept:
                self._warn(f"{lost} lines of {self._path} could not be written ({one_line(error)})")
        if self._open >= 0:
            with contextlib.suppress(OSError):  # of a network's disk: it has been told
                os.close(self._open)

    def _note(self, error: OSError | None) -> None:
        if error is not None and not self._failing:
            why = error.strerror or one_line(error)
            self._warn(
                f"{self._path} cannot be written ({why}): its lines are kept in memory until it can; "
                "training goes on"
            )
        elif error is None and self._failing:
            self._warn(f"{self._path} is written again, no line is missing")
        self._failing = error is not None

    def _write(self) -> None:
        """Everything that is not on the disk yet."""
        if not self._is_ours():
            self._write_whole()
        waiting, at = "".join(self._lines[self._kept :]).encode(), self._size
        with writing(self._path):
            os.ftruncate(self._open, at)  # a write that failed may have left a part of a line
            while waiting:
                written = os.pwrite(self._open, waiting, at)
                at, waiting = at + written, waiting[written:]
        self._size, self._kept = at, len(self._lines)

    def _write_whole(self) -> None:
        if self._folder is not None and not os.path.samestat(self._folder, Path(self._path).parent.stat()):
            raise FileNotFoundError(errno.ENOENT, "its folder is another one now", str(self._path))
        text = "".join(self._lines)
        write_text(self._path, text)
        self._kept = len(self._lines)
        if isinstance(self._path, Path):
            old, self._size = self._open, len(text.encode())
            self._open = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            if old >= 0:
                os.close(old)

    def _is_ours(self) -> bool:
        """Whether the file is there as we left it, but for what a failed write added."""
        try:
            there = os.fstat(self._open)
            return os.path.samestat(there, Path(self._path).stat()) and there.st_size >= self._size
        except OSError:
            return False
