"""When one of several processes dies or fails, the others end within the heartbeat, and say why.

A process whose peer is gone waits for ever in the next collective. So each process regularly tells the others
that it is alive, and a thread checks that all do. A process that fails says why before it ends.
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
from tlc_jax.core.errors import EXIT_INTERRUPTED, is_out_of_memory, one_line
from tlc_jax.parallel import hosts
from tlc_jax.parallel.joining import join

_CHECKS = 5  # in a heartbeat
_LAST = 0.5  # seconds that the service outlives the others: jax would end a process that loses it
_AGAIN = "start all processes again to resume from the last checkpoint"


@contextlib.contextmanager
def joined(options: HostsOptions) -> Iterator[None]:
    """Inside of the context this process is one of several, if there are several. It ends when another one is
    gone (exit code 75: the run can be resumed), and the others end when this one fails."""
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
        if isinstance(error, jax.errors.JaxRuntimeError) and not is_out_of_memory(error):
            # perhaps a connection broke: the watch says whose, and ends this process
            time.sleep((1 + 2 / _CHECKS) * heartbeat)
        over.set()
        code = report(error, f"process {jax.process_index()} of {hosts.count()}: ")
        _leave(code, one_line(error), heartbeat)
    hosts.leader.gather("done")
    over.set()
    watch.join()


def _leave(code: int, why: str, heartbeat: float, dead: int | None = None) -> NoReturn:
    """End this process after telling the others why; jax's exit handler would wait for processes that wait
    for this one. Process `dead` has ended before."""
    index = jax.process_index()
    with contextlib.suppress(Exception):  # process 0 may be gone
        hosts.client().key_value_set(f"left/{index}", why)
        # process 0 runs the service: it waits until the others have ended or noticed that it ends
        until = time.monotonic() + heartbeat
        while index == 0 and time.monotonic() < until and len({dead, *_left()} - {None}) < hosts.count():
            time.sleep(0.1)
        time.sleep(_LAST if index == 0 else 0)
    sys.stdout.flush()
    os._exit(code)


def _left() -> dict[int, str]:
    """Why processes have ended, by index."""
    return {int(key.rpartition("/")[2]): why for key, why in hosts.client().key_value_dir_get("left/")}


def _watch(heartbeat: float, over: threading.Event) -> None:
    index, count, beats = jax.process_index(), hosts.count(), 0
    seen: dict[int, tuple[str, float]] = {i: ("", time.monotonic()) for i in range(count)}

    def end(why: str, dead: int | None = None) -> NoReturn:
        print(f"process {index} of {count}: {why}", file=sys.stderr, flush=True)
        _leave(EXIT_INTERRUPTED, why, heartbeat, dead)

    while not over.wait(heartbeat / _CHECKS):
        beats += 1
        try:
            hosts.client().key_value_set(f"alive/{index}", str(beats), allow_overwrite=True)
            alive = dict(hosts.client().key_value_dir_get("alive/"))
            left = _left()
        except Exception as error:  # of the connection
            if not over.is_set():
                end(f"process 0 of {count} cannot be reached any more ({one_line(error, 100)}); {_AGAIN}", 0)
            return
        for i, why in left.items():
            if i != index and not over.is_set():
                end(f"ended with process {i} of {count}: {why}")
        for i in range(count):
            beat, since = alive.get(f"alive/{i}", ""), seen[i][1]
            if beat != seen[i][0]:
                seen[i] = beat, time.monotonic()
            elif time.monotonic() - since > heartbeat:
                end(f"process {i} of {count} has given no sign of life for {heartbeat:g} s; {_AGAIN}", i)
