"""How much memory a process may still use, of its machine and of the container that it runs in."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CONTAINER = (  # limit and use, of both kinds of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> int:
    """Bytes that can be had without swapping; where a system does not tell, all that it has."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    for limit, use in _CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # 'max' is no number
            most, used = (int(Path(path).read_text(encoding="utf-8")) for path in (limit, use))
            free = min(free, max(0, most - used))
    return free
