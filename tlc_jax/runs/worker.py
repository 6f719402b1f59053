"""A thread that makes calls one after the other, and does not keep its process alive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Like an executor of one thread, but a daemon, as are all threads that are started in it.

    A failed save of Orbax leaves threads that wait five minutes for a folder that nobody will make, and
    Python would wait for them.
    """

    def __init__(self, name: str):
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """The future result of `call`."""
        future: Future[Any] = Future()
        self._calls.put((future, call))
        return future

    def shutdown(self) -> None:
        """Wait for all calls."""
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                future.set_result(call())
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)
