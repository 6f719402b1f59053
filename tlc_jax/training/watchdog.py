"""Reports a step that does not end, with the stacks of all threads: else a hung job looks like a slow one."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable

from tlc_jax.core.progress import duration

_STDERR = 2


class Watchdog:
    """Inside its context a thread checks that `alive` is called at least once every `seconds`."""

    def __init__(self, seconds: float, say: Callable[[str], None]):
        self._seconds, self._say = seconds, say
        self._last = (0, time.monotonic())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self, step: int) -> None:
        """Call this when `step` has ended."""
        self._last = (step, time.monotonic())

    def __enter__(self) -> Watchdog:
        self._last = (self._last[0], time.monotonic())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        reported = None
        while not self._over.wait(self._seconds / 10):
            step, ended = self._last
            if time.monotonic() - ended > self._seconds and reported != ended:
                reported = ended
                self._say(
                    f"no step has ended for {duration(self._seconds)}, since step {step:,}; all threads:"
                )
                faulthandler.dump_traceback(file=_STDERR, all_threads=True)
