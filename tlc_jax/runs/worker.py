"""One thread that does what it is given, one call after the other, and keeps no process from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """Like an executor of one thread, but that it is a daemon, and with it all threads that begin in it.

    Of a save that failed Orbax leaves threads that wait five minutes for a folder that will never be made:
    Python would wait for them.
    """

    def __init__(self, name: str):
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """What `call` will have given or raised."""
        future: Future[Any] = Future()
        self._calls.put((future, call))
        return future

    def shutdown(self) -> None:
        """Waits until all is done."""
        self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            future, call = given
            try:
                future.set_result(call())
            except BaseException as error:  # handed to who waits for it
                future.set_exception(error)
