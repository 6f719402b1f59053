"""When one of several processes dies or fails, the others end within the heartbeat, and say why.

A process whose peer is gone waits for ever in the next collective. So each tells the others, again and
again, that it lives; a thread of each looks whether all do. Who fails says so before it ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import jax

from tlc_jax.config.host_options import HostsOptions
from tlc_jax.core.entry_point import report
from tlc_jax.core.errors import EXIT_INTERRUPTED, one_line
from tlc_jax.parallel import hosts
from tlc_jax.parallel.joining import join

_LOOKS = 5  # in a heartbeat
_LAST = 0.5  # seconds that the service stays after all have said that they end: jax ends who loses it
_AGAIN = "start all processes again to go on from the last checkpoint"


@contextlib.contextmanager
def joined(options: HostsOptions) -> Iterator[None]:
    """Inside, this process is one of several, if there are several. It ends when another is gone (exit code
    75: the run can go on), and the others hear of it when this one fails."""
    join(options)
    heartbeat = options.heartbeat
    if hosts.count() == 1:
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(heartbeat, over), name="peers", daemon=True)
    watch.start()
    try:
        hosts.leader.check_same({"--hosts.heartbeat": heartbeat, "--hosts.processes": options.processes})
        yield
    except BaseException as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            # a connection broke, perhaps: the watch says whose, and ends us
            time.sleep((1 + 2 / _LOOKS) * heartbeat)
        over.set()
        code = report(error, f"process {jax.process_index()} of {hosts.count()}: ")
        _leave(code, one_line(error), heartbeat)
    hosts.leader.gather("done")
    over.set()
    watch.join()


def _leave(code: int, why: str, heartbeat: float, dead: int | None = None) -> NoReturn:
    """Ends this process, and tells the others why; jax's own good-bye would wait for those that wait for us.
    Process `dead` has ended before."""
    own = jax.process_index()
    with contextlib.suppress(Exception):  # process 0 may be gone
        hosts.client().key_value_set(f"left/{own}", why)
        # process 0 keeps the service for all: it waits for who ends with it, or notices that it has ended
        until = time.monotonic() + heartbeat
        while own == 0 and time.monotonic() < until and len({dead, *_left()} - {None}) < hosts.count():
            time.sleep(0.1)
        time.sleep(_LAST if own == 0 else 0)
    sys.stdout.flush()
    os._exit(code)


def _left() -> dict[int, str]:
    """Why which process has ended."""
    return {int(key.rpartition("/")[2]): why for key, why in hosts.client().key_value_dir_get("left/")}


def _watch(heartbeat: float, over: threading.Event) -> None:
    own, count, beats = jax.process_index(), hosts.count(), 0
    seen: dict[int, tuple[str, float]] = {i: ("", time.monotonic()) for i in range(count)}

    def end(why: str, dead: int | None = None) -> NoReturn:
        print(f"process {own} of {count}: {why}", file=sys.stderr, flush=True)
        _leave(EXIT_INTERRUPTED, why, heartbeat, dead)

    while not over.wait(heartbeat / _LOOKS):
        beats += 1
        try:
            hosts.client().key_value_set(f"alive/{own}", str(beats), allow_overwrite=True)
            found = dict(hosts.client().key_value_dir_get("alive/"))
            left = _left()
        except Exception as error:  # of the connection
            if not over.is_set():
                end(f"process 0 of {count} cannot be reached any more ({one_line(error, 100)}); {_AGAIN}", 0)
            return
        for i, why in left.items():
            if i != own and not over.is_set():
                end(f"ended with process {i} of {count}: {why}")
        for i in range(count):
            beat, since = found.get(f"alive/{i}", ""), seen[i][1]
            if beat != seen[i][0]:
                seen[i] = beat, time.monotonic()
            elif time.monotonic() - since > heartbeat:
                end(f"process {i} of {count} has given no sign of life for {heartbeat:g} s; {_AGAIN}", i)
