"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal) as a request to stop, which is obeyed where nothing is
half done.

An exception raised in a signal handler can be lost (Python swallows it in a callback of the garbage
collector), so the handler only sets a flag. Long work calls `check()` between its parts; training asks
`requested()` after each step and saves first.
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
    """Install the signal handlers. A second Ctrl-C ends the process at once. Under nohup SIGHUP stays
    ignored."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    for number in filter(None, (signal.SIGINT, signal.SIGTERM, hangup)):
        if number != hangup or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _handle)


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _requested


def check() -> None:
    """Interrupted if this process was asked to stop."""
    if _requested:
        raise Interrupted(f"interrupted; {AGAIN}")


def _handle(number: int, frame: Any) -> None:
    global _requested
    if _requested and number == signal.SIGINT:
        _say(f"ended at once; {AGAIN}")
        os._exit(EXIT_INTERRUPTED)
    _requested = True
    _say("stopping as soon as nothing is half done; Ctrl-C again ends at once")


def _say(text: str) -> None:
    """Print past Python's own streams, which the signal may have interrupted, if standard error is open."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"\n{text}\n".encode())
