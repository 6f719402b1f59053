"""Several processes that work on one run: what process 0 decides is what all of them do.

Messages go through the coordination service that jax keeps beside the devices. They cost a step nothing, work
while other processes compile or read for an hour, and cannot overtake a collective.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from tlc_jax.config.saved import differences
from tlc_jax.core.errors import Interrupted, SaveFailed, UserError

Value = TypeVar("Value")
_ERRORS = {kind.__name__: kind for kind in (UserError, SaveFailed, Interrupted)}
_FOREVER = 7 * 24 * 3_600_000  # milliseconds; the watch over peers (peers.py) ends a wait for a dead process
_KEPT = 1000  # newest messages: no process is further behind, since every step waits for all


def client() -> Any:
    """The client of the coordination service, for which jax has no public name."""
    from jax._src import distributed

    return distributed.global_state.client


def count() -> int:
    return jax.process_count()


def is_first() -> bool:
    return jax.process_index() == 0


def lockstep() -> bool:
    """Whether each step must be waited for: on several CPU processes, two steps in flight wait for each other
    for ever."""
    return count() > 1 and jax.default_backend() == "cpu"


class Leader:
    """Process 0 as all processes see it. They call its methods in the same order, from their main thread.

    A `decide` inside of another one is part of that decision. A process that is alone sends no messages.
    """

    def __init__(self) -> None:
        self._messages = 0
        self._deciding = False

    def decide(self, decide: Callable[[], Value]) -> Value:
        """What `decide` returns (JSON) on process 0, which alone calls it. An error of `core/errors.py` that
        it raises there is raised in all processes."""
        if count() == 1 or self._deciding:
            return decide()
        key = self._next_key()
        if not is_first():
            message = json.loads(client().blocking_key_value_get(key, _FOREVER))
            if "error" in message:
                raise _ERRORS[message["error"]](message["text"])
            return message["value"]
        self._deciding = True
        try:
            value = decide()
            self._send(key, {"value": value})
            return value
        except tuple(_ERRORS.values()) as error:
            self._send(key, {"error": type(error).__name__, "text": str(error)})
            raise
        finally:
            self._deciding = False

    def only(self, work: Callable[[], Value]) -> Value | None:
        """What `work` returns on process 0, which alone calls it; None elsewhere. Errors as for `decide`."""
        results: list[Value] = []
        self.decide(lambda: results.append(work()))
        return results[0] if results else None

    def gather(self, value: Any) -> list[Any]:
        """The value (JSON) of each process, by index; no process continues before all have given theirs."""
        if count() == 1:
            return [value]
        key = self._next_key()
        client().key_value_set(f"{key}/{jax.process_index()}", json.dumps(value))
        messages = [client().blocking_key_value_get(f"{key}/{i}", _FOREVER) for i in range(count())]
        return [json.loads(message) for message in messages]

    def check_same(self, options: dict[str, Any]) -> None:
        """UserError in all processes where one has other options than process 0: they would train no run at
        all, or wait for each other for ever."""
        expected, *others = self.gather(options)
        for index, given in enumerate(others, start=1):
            if differ := differences(given, expected, "process 0"):
                raise UserError(
                    f"the processes were given different options: in process {index}, {differ}. "
                    "Give all the same command but for --hosts.index"
                )

    def stop_reason(self, reason: str) -> str:
        """On process 0: why it or another process wants to stop, or ''. The others send it their `reason`."""
        if count() == 1 or (is_first() and reason):
            return reason
        if is_first():
            return next((reason for _, reason in client().key_value_dir_get("stop/")), "")
        if reason:
            client().key_value_set(f"stop/{jax.process_index()}", reason, allow_overwrite=True)
        return reason

    def _next_key(self) -> str:
        self._messages += 1
        return f"messages/{self._messages}"

    def _send(self, key: str, message: dict[str, Any]) -> None:
        client().key_value_set(key, json.dumps(message))
        if self._messages > _KEPT:  # every process has read that one
            client().key_value_delete(f"messages/{self._messages - _KEPT}")


leader = Leader()
