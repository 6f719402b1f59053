"""Several processes, one run: what process 0 finds or decides is what all of them know.

Words go through the coordination service that jax keeps beside the devices, not through the devices: it
costs no step anything, works while others compile or read for an hour, and cannot overtake a collective.
All processes call `first` and `all_say` in the same order, from their main thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from tlc_jax.config.saved import differences
from tlc_jax.core.errors import Interrupted, SaveFailed, UserError

Found = TypeVar("Found")
_ERRORS = {kind.__name__: kind for kind in (UserError, SaveFailed, Interrupted)}
_FOREVER = 7 * 24 * 3_600_000  # milliseconds; the watch over peers (peers.py) ends a wait for the dead
_KEPT = 1000  # newest words: nobody is so far behind, since every step waits for all
_calls = 0


def client() -> Any:
    """Of the coordination service; jax has no public name for it."""
    from jax._src import distributed

    return distributed.global_state.client


def count() -> int:
    return jax.process_count()


def is_first() -> bool:
    return jax.process_index() == 0


def lockstep() -> bool:
    """Whether each step must be waited for: on several CPU processes two steps in flight wait for each
    other for ever."""
    return count() > 1 and jax.default_backend() == "cpu"


def first(find: Callable[[], Found]) -> Found:
    """What `find` gives on process 0, where alone it is called; JSON. What it raises there (an error of
    `core/errors.py`), all raise."""
    if count() == 1:
        return find()
    key = _next()
    if is_first():
        word, error = _outcome(find)
        client().key_value_set(key, json.dumps(word))
        _forget(key)
        if error is not None:
            raise error
    else:
        word = json.loads(client().blocking_key_value_get(key, _FOREVER))
        if "error" in word:
            raise _ERRORS[word["error"]](word["text"])
    return word["found"]


def on_first(find: Callable[[], Found]) -> Found | None:
    """What `find` gives on process 0, where alone it is called; None elsewhere. Of anything; errors as for
    `first`."""
    kept: list[Found] = []
    first(lambda: kept.append(find()))
    return kept[0] if kept else None


def all_say(word: Any) -> list[Any]:
    """What each process says, by index; nobody goes on before all have spoken. JSON."""
    if count() == 1:
        return [word]
    key = _next()
    client().key_value_set(f"{key}/{jax.process_index()}", json.dumps(word))
    told = [client().blocking_key_value_get(f"{key}/{i}", _FOREVER) for i in range(count())]
    return [json.loads(text) for text in told]


def check_same(options: dict[str, Any]) -> None:
    """UserError in all processes where one has other options than process 0: they would train no run at all,
    or wait for each other for ever."""
    own, *others = all_say(options)
    for index, other in enumerate(others, start=1):
        if differ := differences(other, own, "process 0"):
            raise UserError(
                f"the processes were given different options: in process {index}, {differ}. "
                "Give all the same command but for --hosts.index"
            )


def stop_wanted(own: str) -> str:
    """Why the run must stop now, or '': one process's reason is enough, and process 0 says so to all."""
    if count() == 1:
        return own
    if own and not is_first():
        client().key_value_set(f"stop/{jax.process_index()}", own, allow_overwrite=True)
    return first(lambda: own or next((why for _, why in client().key_value_dir_get("stop/")), ""))


def _next() -> str:
    global _calls
    _calls += 1
    return f"words/{_calls}"


def _forget(key: str) -> None:
    """Removes what every process has read."""
    head, _, number = key.rpartition("/")
    if int(number) > _KEPT:
        client().key_value_delete(f"{head}/{int(number) - _KEPT}")


def _outcome(find: Callable[[], Any]) -> tuple[dict[str, Any], Exception | None]:
    try:
        return {"found": find()}, None
    except tuple(_ERRORS.values()) as error:
        return {"error": type(error).__name__, "text": str(error)}, error
