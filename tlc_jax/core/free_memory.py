"""Memory that a process may still use, given its machine and its container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CONTAINER = (  # limit and use, for both versions of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> int:
    """Bytes available without swapping; all memory of the machine if the system does not say."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    for limit, use in _CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # 'max': no limit
            most, used = (int(Path(path).read_text(encoding="utf-8")) for path in (limit, use))
            free = min(free, max(0, most - used))
    return free
