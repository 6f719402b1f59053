"""Long calls of native code, made in a thread that is abandoned when this process is asked to stop.

A library that computes in one call outside of Python cannot check for signals; the main thread can.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from tlc_jax.core import stopping
from tlc_jax.core.errors import EXIT_INTERRUPTED, Interrupted

Result = TypeVar("Result")
_INTERVAL = 0.1  # seconds between checks for a request to stop
_PATIENCE = 0.5  # seconds that abandoned work gets to end before the process does
_abandoned: list[threading.Thread] = []


def abandonable(work: Callable[[], Result]) -> Result:
    """Return or raise what `work()` does. Raises Interrupted soon after this process is asked to stop; the
    result is lost then, so `work` must not write anything."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # a panic of Rust is not an Exception
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_INTERVAL)
        try:
            stopping.check()
        except Interrupted:
            _abandoned.append(thread)
            raise
    if errors:
        raise errors[0]
    return results[0]


@atexit.register
def _end() -> None:
    """End the process at once if abandoned work still runs: a thread that returns from native code while the
    interpreter shuts down would abort the process with another exit code."""
    for thread in _abandoned:
        thread.join(_PATIENCE)
    if any(thread.is_alive() for thread in _abandoned):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(EXIT_INTERRUPTED)
