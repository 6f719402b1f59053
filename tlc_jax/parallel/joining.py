"""How several processes find each other, before anything is computed: within five minutes, or with a reason.

jax's own wait prints nothing, ignores signals, and ends in a stack trace. So it runs in another thread, while
this one reports what is waited for, obeys signals and decides when to give up.
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
from tlc_jax.parallel import accelerators
from tlc_jax.parallel.slurm import step_tasks, why_others

PATIENCE = 300.0  # seconds until the others must have come
_FIRST_REPORT, _NEXT_REPORT = 10.0, 60.0  # seconds


def join(options: HostsOptions) -> None:
    """Join the other processes, if there are any. UserError where neither options nor cluster tell how; when
    the others do not come, this process reports it and ends."""
    try:
        options.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    tasks = step_tasks() if options.coordinator is None and options.processes is None else 1
    if options.coordinator is None and tasks == 1:
        accelerators.devices()
        if jax.process_count() > 1:
            raise UserError(
                f"this is one of {jax.process_count()} hosts of a TPU pod: start all with "
                "--hosts.coordinator auto"
            )
        return
    # it would intercept SIGTERM; the process that is asked to stop tells the others instead
    jax.config.update("jax_enable_preemption_service", False)
    named = options.address
    if named and options.index == 0:
        _check_free(named)
    failures = _wait(
        options,
        coordinator_address=named and "{}:{}".format(*named),
        num_processes=options.processes or (tasks if tasks > 1 else None),
        process_id=options.index,
        # ours notices first, and says more
        heartbeat_timeout_seconds=round(2 * options.heartbeat),
        initialization_timeout=round(2 * PATIENCE),
        cluster_detection_method="deactivate" if named else None,
    )
    for error in failures:
        if isinstance(error, ValueError):  # jax found no cluster
            raise UserError(
                f"no cluster tells who the processes are ({one_line(error)}): start with srun or on a TPU "
                "pod, or give --hosts.coordinator ADDRESS:PORT"
            ) from error
        if isinstance(error, RuntimeError):
            raise UserError(f"the processes did not find each other: {one_line(error)}") from error
        raise error


def _check_free(named: tuple[str, int]) -> None:
    """The system lets two processes 0 share a port: each would wait for processes that joined the other."""
    try:
        socket.create_server(("", named[1])).close()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UserError(
            f"process 0 cannot listen on port {named[1]} ({why}): is another process 0 there already? Give "
            "each process an index of its own, or all a free port"
        ) from error


def _wait(options: HostsOptions, **arguments: Any) -> list[BaseException]:
    """What jax raised, if anything."""
    failures: list[BaseException] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(**arguments)
        except BaseException as error:
            failures.append(error)

    joining = threading.Thread(target=initialize, name="joining", daemon=True)
    joining.start()
    began, report_at, missing = time.monotonic(), _FIRST_REPORT, ""
    while joining.is_alive():
        joining.join(0.05)
        waited = time.monotonic() - began
        if stopping.requested():
            _end(Interrupted(f"interrupted while waiting for other processes; {stopping.AGAIN}"))
        if waited > PATIENCE:  # a process that was there may just have given up
            missing = missing or _missing(options)
            _end(UserError(f"{missing}, in {PATIENCE:g} s: {_hint(options)}"))
        if waited > report_at:
            missing = _missing(options)
            print(f"{missing} ({waited:.0f} s): {_hint(options)}", file=sys.stderr, flush=True)
            report_at += _NEXT_REPORT
    return failures


def _missing(options: HostsOptions) -> str:
    """Which processes are missing, as far as this one can know."""
    if options.address is None:
        why = "" if options.coordinator else f"{why_others()}, but "
        return f"{why}not all other processes have come"
    address = "{}:{}".format(*options.address)
    missing = f"not all of the {options.processes} processes have come"
    if options.index == 0:
        return f"process 0 listens on port {options.address[1]}, the others look for {address}; {missing}"
    try:
        socket.create_connection(options.address, timeout=1).close()
    except OSError as error:
        return f"process {options.index} finds no process 0 at {address} ({one_line(error)})"
    return f"{address} answers, but {missing}, each with an index of its own"


def _hint(options: HostsOptions) -> str:
    together = "start all at about the same time"
    return (
        together
        if options.coordinator
        else f"{together} with srun, or give --hosts.processes 1 to train alone"
    )


def _end(error: Exception) -> NoReturn:
    """End at once: jax's thread cannot be stopped, and its exit handler would wait for it."""
    code = report(error)
    sys.stdout.flush()
    os._exit(code)
