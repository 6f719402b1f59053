"""What every result file says of how it was made."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

_SHOWN = ("model name", "flags")


def about() -> dict[str, str]:
    """Command, commit, date, and the machine as this process may use it. In a copy of the tree that is no
    checkout, the variable COMMIT says which commit it is."""
    commit = os.environ.get("COMMIT") or subprocess.check_output(
        ["git", "rev-parse", "--short", "HEAD"], text=True
    )
    cores = len(os.sched_getaffinity(0))
    return {
        "command": " ".join(["python", *map(_without_folder, sys.argv)]),
        "commit": commit.strip(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{cores} core{'s' if cores > 1 else ''} of {processor()}",
    }


def _without_folder(argument: str) -> str:
    """An absolute path says only where files are on this machine."""
    return Path(argument).name if argument.startswith("/") else argument


def processor() -> str:
    """The name of the CPU, and the widest of its vector units that matters here where the system shows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
        name, flags = (next(line for line in lines if line.startswith(kind)) for kind in _SHOWN)
    except (OSError, StopIteration):  # neither Linux nor x86
        return platform.processor() or platform.machine()
    return f"{name.partition(':')[2].strip()}, {'AVX-512' if 'avx512f' in flags else 'AVX2'}"
