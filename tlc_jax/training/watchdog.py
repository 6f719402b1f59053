"""A step that never ends is reported, with what every thread is doing: a hung job should not look slow."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable

from tlc_jax.core.progress import duration

_STDERR = 2


class Watchdog:
    """Watches from a thread of its own, while in its context, that `alive` is called."""

    def __init__(self, seconds: float, say: Callable[[str], None]):
        self._seconds, self._say = seconds, say
        self._last = (0, time.monotonic())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def alive(self, step: int) -> None:
        """`step` has ended."""
        self._last = (step, time.monotonic())

    def __enter__(self) -> Watchdog:
        self._last = (self._last[0], time.monotonic())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        told = None
        while not self._over.wait(self._seconds / 10):
            step, at = self._last
            if time.monotonic() - at > self._seconds and told != at:
                told = at
                self._say(
                    f"no step has ended for {duration(self._seconds)}, since step {step:,}; all threads:"
                )
                faulthandler.dump_traceback(file=_STDERR, all_threads=True)
