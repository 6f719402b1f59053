"""Ctrl-C and SIGTERM as a flag: asked for at any moment, obeyed where nothing is half done.

An exception out of a signal handler can be lost (Python swallows it in a garbage collector's callback), so
the handler only notes the wish. Long work asks `check()` between its pieces; training asks `requested()`
after each step and saves first.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tlc_jax.core.errors import EXIT_INTERRUPTED, Interrupted

AGAIN = "run the same command again to go on"
_requested = False


def listen() -> None:
    """From now on a signal is a wish; the second Ctrl-C ends the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _note)


def requested() -> bool:
    """Whether somebody wants this process to stop."""
    return _requested


def check() -> None:
    """Raises Interrupted if somebody wants this process to stop."""
    if _requested:
        raise Interrupted(f"interrupted; {AGAIN}")


def _note(number: int, frame: Any) -> None:
    global _requested
    if _requested and number == signal.SIGINT:
        os.write(sys.stderr.fileno(), f"\nended at once; {AGAIN}\n".encode())
        os._exit(EXIT_INTERRUPTED)
    _requested = True
    os.write(sys.stderr.fileno(), b"\nstopping as soon as nothing is half done; Ctrl-C again ends at once\n")
