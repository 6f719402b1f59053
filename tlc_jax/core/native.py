"""Native work that may last: done in a thread that is left behind when somebody wants this process to stop.

What a library computes in one call, outside of Python, asks nobody whether to go on. Beside it the main
thread can.
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
_EVERY = 0.1  # seconds between two questions whether to stop
_PATIENCE = 0.5  # seconds for work that was left behind to end by itself before the process does
_left: list[threading.Thread] = []


def abandonable(work: Callable[[], Result]) -> Result:
    """What `work()` gives or raises. Raises Interrupted, within a moment, if somebody wants this process to
    stop; what is still computed then is lost, so it must not write anything that stays."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # a panic of Rust is no Exception
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_EVERY)
        try:
            stopping.check()
        except Interrupted:
            _left.append(thread)
            raise
    if errors:
        raise errors[0]
    return results[0]


@atexit.register
def _end() -> None:
    """A thread that comes back from native code into an interpreter that is being torn down aborts the
    process, with another exit code: where one is still at work, the process ends without being torn down."""
    for thread in _left:
        thread.join(_PATIENCE)
    if any(thread.is_alive() for thread in _left):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(EXIT_INTERRUPTED)
