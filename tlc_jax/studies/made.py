"""How a result was made: by which commit, versions and device, and when. Results are given to others, so they
name no path of the machine."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import subprocess
from pathlib import Path
from typing import Any

from tlc_jax.runs.starts import versions

COMMIT = "TLC_JAX_COMMIT"
"""The variable that names the commit of a copy of the code that is no checkout."""


def made() -> dict[str, Any]:
    """What results and pictures say of how they were made."""
    return {
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device(),
        **versions(),
    }


@functools.cache
def device() -> str:
    """The devices that jax computes on; of a CPU its name, its widest vector instructions and the cores that
    this process may use."""
    import jax

    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{len(devices)} x {devices[0].device_kind}"
    name, vectors = "CPU", ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        about = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        about = {key.strip(): value.strip() for key, value in about.items()}
        name, flags = about.get("model name", name), about.get("flags", "").split()
        vectors = next((f", {kind.upper()}" for kind in ("avx512f", "avx2") if kind in flags), "")
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return f"{cores} core{'s' if cores != 1 else ''} of {name}{vectors}"


@functools.cache
def commit() -> str | None:
    """The commit of the code, with + if files differ from it; None if nothing says which it is. A process
    that runs for long asks when it begins, since the files may change later."""
    if named := os.environ.get(COMMIT):
        return named
    root = Path(__file__).parents[2]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if (root / ".git").exists():
            git = ["git", "-C", str(root)]
            head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
            changed = subprocess.check_output([*git, "status", "--porcelain", "--", "tlc_jax"], text=True)
            return head + ("+" if changed.strip() else "")
    return None
