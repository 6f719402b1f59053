"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) as a flag: asked for at any moment, obeyed where nothing is
half done.

An exception out of a signal handler can be lost (Python swallows it in a garbage collector's callback), so
the handler only notes the wish. Long work asks `check()` between its pieces; training asks `requested()`
after each step and saves first.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from tlc_jax.core.errors import EXIT_INTERRUPTED, Interrupted

AGAIN = "run the same command again to resume"
_STDERR = 2
_requested = False


def listen() -> None:
    """From now on a signal is a request; the second Ctrl-C ends the process at once. Under nohup the closed
    terminal stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
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
        _say(f"ended at once; {AGAIN}")
        os._exit(EXIT_INTERRUPTED)
    _requested = True
    _say("stopping as soon as nothing is half done; Ctrl-C again ends at once")


def _say(text: str) -> None:
    """Past Python's own streams, which a handler may have interrupted; nobody may be there to read it."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"\n{text}\n".encode())
