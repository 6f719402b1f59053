"""How several processes find each other, before anything is computed: within five minutes, or told why not.

jax's own wait says nothing, obeys no signal, and ends in a stack trace. So it waits in a thread of its own,
while this one tells what is waited for, listens to signals and has the last word.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import jax

from tlc_jax.config.host_options import HostsOptions
from tlc_jax.core import stopping
from tlc_jax.core.entry_point import report
from tlc_jax.core.errors import Interrupted, UserError, one_line
from tlc_jax.parallel.slurm import step_tasks, why_others

PATIENCE = 300.0  # seconds until the others must have come
_FIRST_TOLD, _TOLD_AGAIN = 10.0, 60.0  # seconds


def join(options: HostsOptions) -> None:
    """Joins the other processes, if there are others; UserError where options or cluster do not tell how. It
    ends this process, told, when they do not come."""
    try:
        options.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    tasks = step_tasks() if options.coordinator is None and options.processes is None else 1
    if options.coordinator is None and tasks == 1:
        if jax.process_count() > 1:
            raise UserError(
                f"this is one of {jax.process_count()} hosts of a TPU pod: start all with "
                "--hosts.coordinator auto"
            )
        return
    # its notifier takes SIGTERM away from us: whoever is asked to stop tells the others himself
    jax.config.update("jax_enable_preemption_service", False)
    named = options.address
    if named and options.index == 0:
        _check_free(named)
    failures = _wait(
        options,
        coordinator_address=named and "{}:{}".format(*named),
        num_processes=options.processes or (tasks if tasks > 1 else None),
        process_id=options.index,
        # ours notices first, and has better words
        heartbeat_timeout_seconds=round(2 * options.heartbeat),
        initialization_timeout=round(2 * PATIENCE),
        cluster_detection_method="deactivate" if named else None,
    )
    for error in failures:
        if isinstance(error, ValueError):  # jax found no cluster that tells it
            raise UserError(
                f"no cluster tells who the processes are ({one_line(error)}): start with srun or on a TPU "
                "pod, or give --hosts.coordinator ADDRESS:PORT"
            ) from error
        if isinstance(error, RuntimeError):
            raise UserError(f"the processes did not find each other: {one_line(error)}") from error
        raise error


def _check_free(named: tuple[str, int]) -> None:
    """The system lets two processes 0 share a port; each would wait for those that the other one has."""
    try:
        socket.create_server(("", named[1])).close()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UserError(
            f"process 0 cannot listen on port {named[1]} ({why}): is another process 0 there already? Give "
            "the others an index of their own, or all a free port"
        ) from error


def _wait(options: HostsOptions, **arguments: Any) -> list[BaseException]:
    """What jax raised, if it did."""
    failures: list[BaseException] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(**arguments)
        except BaseException as error:
            failures.append(error)

    joining = threading.Thread(target=initialize, name="joining", daemon=True)
    joining.start()
    began, tell, missing = time.monotonic(), _FIRST_TOLD, ""
    while joining.is_alive():
        joining.join(0.05)
        waited = time.monotonic() - began
        if stopping.requested():
            _end(Interrupted(f"interrupted while waiting for other processes; {stopping.AGAIN}"))
        if waited > PATIENCE:  # who was there until now may just have given up
            missing = missing or _missing(options)
            _end(UserError(f"{missing}, in {PATIENCE:g} s: {_todo(options)}"))
        if waited > tell:
            missing = _missing(options)
            print(f"{missing} ({waited:.0f} s): {_todo(options)}", file=sys.stderr, flush=True)
            tell += _TOLD_AGAIN
    return failures


def _missing(options: HostsOptions) -> str:
    """Who has not come yet, as far as this process can know."""
    if options.address is None:
        why = "" if options.coordinator else f"{why_others()}, but "
        return f"{why}not all other processes have come"
    where = "{}:{}".format(*options.address)
    missing = f"not all of the {options.processes} processes have come"
    if options.index == 0:
        return f"process 0 listens on port {options.address[1]}, the others look for {where}; {missing}"
    try:
        socket.create_connection(options.address, timeout=1).close()
    except OSError as error:
        return f"process {options.index} finds no process 0 at {where} ({one_line(error)})"
    return f"{where} answers, but {missing}, each with an index of its own"


def _todo(options: HostsOptions) -> str:
    together = "start all at about the same time"
    return (
        together
        if options.coordinator
        else f"{together} with srun, or give --hosts.processes 1 to train alone"
    )


def _end(error: Exception) -> NoReturn:
    """At once: jax's thread cannot be called back, and its good-bye at Python's end would wait for it."""
    code = report(error)
    sys.stdout.flush()
    os._exit(code)
