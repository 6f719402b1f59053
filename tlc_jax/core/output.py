"""Best-effort standard output and standard error: a run does not stop because its output cannot be written.

The reader may leave (`| head`, Ctrl-C in `| tee`), the disk of a log may be full, a terminal may be closed,
a stream may never have been open. Later output is discarded, or written again once a full disk has space. A
command whose result is what it prints calls `check_delivered` at its end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any, TextIO

from tlc_jax.core.errors import UserError


class BestEffort:
    """A text stream that never raises OSError; `lost` is the first such error, or None. Characters that the
    locale cannot encode are written as escapes."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.lost: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
        with contextlib.suppress(AttributeError, ValueError, OSError):
            os.set_blocking(stream.fileno(), True)  # a program on the same terminal may have changed that

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Discard all further output, including what libraries write past Python, unless the disk is only
        full."""
        self.lost = self.lost or error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def install() -> None:
    """Make standard output and error of this process best effort; a closed one is discarded."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, BestEffort):
            continue
        best_effort = BestEffort(_nowhere(descriptor) if stream is None else stream)
        if stream is None:
            best_effort.lost = OSError(errno.EBADF, "it is closed")
        setattr(sys, name, best_effort)


def _nowhere(descriptor: int) -> TextIO:
    """Open the null device in place of a closed descriptor. Otherwise the next file that is opened would
    get its number, and what a library prints would be written into that file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return open(descriptor, "w", encoding="utf-8", closefd=False)


def mention_lost(instead: str) -> None:
    """Warn on standard error if standard output could not be written in full, and say where to look
    `instead`. A reader that left, or an output that was closed from the beginning, needs no warning."""
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and lost.errno not in (errno.EPIPE, errno.EBADF):
        print(f"warning: standard output could not be written ({lost.strerror}); {instead}", file=sys.stderr)


def check_delivered() -> None:
    """UserError if what was printed could not be written, unless the reader left."""
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        raise UserError(
            f"standard output cannot be written ({lost.strerror}): free some space or write elsewhere"
        )
