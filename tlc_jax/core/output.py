"""Standard output and standard error are best effort: that nobody can hear it is no reason to stop working.

A reader may leave (`| head`, Ctrl-C in `| tee`), a log's disk may be full, a terminal may be closed, a stream
may never have been open. What is written after that goes nowhere, or where it should again when its disk has
room again, and the run goes on. A command whose product is what it prints says so with `check_delivered`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any, TextIO

from tlc_jax.core.errors import UserError


class BestEffort:
    """A text stream that never raises OSError: `lost` is the first one that it met, None while all is well.
    What the locale cannot encode is written as an escape."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.lost: OSError | None = None
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
        with contextlib.suppress(AttributeError, ValueError, OSError):
            os.set_blocking(stream.fileno(), True)  # who shares a terminal may have changed that

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
        """Unless there may be room again, whatever is still to be written goes nowhere, what libraries write
        past Python too."""
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
    """Makes standard output and error of this process best effort; one that was closed goes nowhere."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if isinstance(stream, BestEffort):
            continue
        best_effort = BestEffort(_nowhere(descriptor) if stream is None else stream)
        if stream is None:
            best_effort.lost = OSError(errno.EBADF, "it is closed")
        setattr(sys, name, best_effort)


def _nowhere(descriptor: int) -> TextIO:
    """In the place of a closed descriptor: else the next file that is opened would take it, and what a
    library prints would be written into that file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return open(descriptor, "w", encoding="utf-8", closefd=False)


def mention_lost(instead: str) -> None:
    """Tells on standard error that a part of standard output is missing, and what there is `instead`. That
    its reader had enough, or that it was closed from the beginning, needs no word."""
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and lost.errno not in (errno.EPIPE, errno.EBADF):
        print(f"warning: standard output could not be written ({lost.strerror}); {instead}", file=sys.stderr)


def check_delivered() -> None:
    """UserError if what was printed could not be written; that its reader had enough is none."""
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        raise UserError(f"standard output cannot be written ({lost.strerror}): make room, or write elsewhere")
