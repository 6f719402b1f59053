"""Run one command in several processes on this machine, each with fake CPU devices, as on a pod's hosts.

    python launch/local_processes.py --processes 2 --devices 4 -- \\
      python -m tlc_jax.train --config quickstart --workdir runs/two

Without a command it trains the quickstart in runs/local_processes. Each process gets the command with
--hosts.coordinator, --hosts.processes and --hosts.index. Ctrl-C and SIGTERM are passed on, so that the
processes save and end; on Linux they do so too if this program is killed. The exit code is that of a
process that failed, else 75 if one was interrupted, else 0.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from typing import IO

EXIT_INTERRUPTED = 75
PR_SET_PDEATHSIG = 1  # of Linux


def main() -> int:
    options = parse()
    port = free_port()
    commands = [
        [*options.command, *hosts_options(port, options.processes, index)]
        for index in range(options.processes)
    ]
    environment = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(options.devices)}
    if options.dry_run:
        for command in commands:
            print(shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), *command]))
        return 0
    if shutil.which(commands[0][0]) is None:
        print(f"error: {commands[0][0]} is not a program: give -- and a command", file=sys.stderr)
        return 2
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_launcher if sys.platform == "linux" else None,
        )
        for command in commands
    ]

    def pass_on(number: int, frame: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, lambda number, frame: None)  # the terminal sends it to all
    readers = [
        threading.Thread(target=show, args=(process.stdout, index)) for index, process in enumerate(processes)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return exit_code([process.wait() for process in processes])


def end_with_launcher() -> None:
    """Have this process get SIGTERM, after which it saves, when the launcher ends, even by kill -9."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2, help="number of processes (2)")
    parser.add_argument("--devices", type=int, default=4, help="fake CPU devices of each process (4)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and execute none")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command")
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        del options.command[0]
    if not options.command:
        workdir = ["--config", "quickstart", "--workdir", "runs/local_processes"]
        options.command = [sys.executable, "-m", "tlc_jax.train", *workdir]
    for name in ("processes", "devices"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def hosts_options(port: int, processes: int, index: int) -> list[str]:
    if processes == 1:
        return []
    address = ["--hosts.coordinator", f"localhost:{port}"]
    return [*address, "--hosts.processes", str(processes), "--hosts.index", str(index)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def xla_flags(devices: int) -> str:
    """The flags of the environment, with so many CPU devices."""
    kept = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    return f"{kept} --xla_force_host_platform_device_count={devices}".strip()


def show(output: IO[bytes] | None, index: int) -> None:
    """Print the lines of a process, each with its index."""
    assert output is not None
    for line in output:
        sys.stdout.buffer.write(f"[{index}] ".encode() + line)
        sys.stdout.buffer.flush()


def exit_code(codes: list[int]) -> int:
    """Of all processes. That of a signal is negative here, and 128 more than its number for a shell."""
    shell = [code if code >= 0 else 128 - code for code in codes]
    failed = [code for code in shell if code not in (0, EXIT_INTERRUPTED)]
    return next(iter(failed), max(shell))


if __name__ == "__main__":
    sys.exit(main())
