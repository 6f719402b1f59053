"""Several processes on this machine that work on one study, each on cores of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tlc_jax.core import stopping
from tlc_jax.core.errors import EXIT_INTERRUPTED, EXIT_USER, Interrupted, UserError
from tlc_jax.storage.paths import AnyPath

_LOOK = 0.2  # seconds
_LAUNCH = """
import ctypes, os, sys
cores = [int(core) for core in sys.argv[1].split(",") if core]
if cores:  # before anything starts threads: pools are as large as the cores that a process may use
    os.sched_setaffinity(0, cores)
if sys.platform == "linux":  # the worker is asked to stop when its parent is killed
    ctypes.CDLL(None).prctl(1, 15)
os.execv(sys.argv[2], sys.argv[2:])
"""


def run_workers(count: int, workdir: AnyPath) -> None:
    """Start `count` processes that work on the study in a folder, and wait for them. The first that fails
    ends the others; of one that is killed they take up the item. What they have finished is kept. UserError
    if its input was wrong, Interrupted after a signal."""
    study = [sys.executable, "-m", "tlc_jax.studies.item_worker", str(workdir)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, ",".join(map(str, cores)), *study], start_new_session=True
        )
        for cores in _shares(count)
    ]
    try:
        failed = _wait(workers)
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait()
    if stopping.requested() or failed == EXIT_INTERRUPTED:
        raise Interrupted("the workers have saved; run the same command again to resume")
    if failed == EXIT_USER:
        raise UserError("a worker has stopped: what to mend is said above")
    if failed:
        raise SystemExit(failed)


def _wait(workers: list[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first worker that fails; 0 once all are done, or when a stop is requested. Those
    that are killed are named; they fail only if none is left."""
    killed = set[int]()
    while not stopping.requested():
        codes = [worker.poll() for worker in workers]
        for number, code in enumerate(codes):
            if code is not None and code < 0 and number not in killed:
                killed.add(number)
                name = signal.Signals(-code).name
                print(f"worker {number + 1} was killed ({name}): another takes up its item", file=sys.stderr)
        if failed := next((code for code in codes if code and code > 0), 0):
            return failed
        if None not in codes:
            return 0 if 0 in codes else EXIT_INTERRUPTED
        time.sleep(_LOOK)
    return 0


def _shares(count: int) -> list[list[int]]:
    """The cores of each worker: equal shares of those that this process may use; [] where they cannot be
    shared out."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = sorted(affinity(0)) if affinity else []
    if len(cores) < count:
        return [[] for _ in range(count)]
    size = len(cores) // count
    return [cores[number * size : (number + 1) * size] for number in range(count)]
