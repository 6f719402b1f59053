"""Memory that a process may still use, given its machine and its container."""

from __future__ import annotations

import contextlib
from pathlib import Path

_CONTAINER = (  # limit and use, for both versions of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory() -> int:
    """Bytes available without swapping."""
    import psutil  # 20 ms that most commands need not wait for

    free = psutil.virtual_memory().available
    for limit, use in _CONTAINER:
        with contextlib.suppress(OSError, ValueError):  # 'max': no limit
            most, used = (int(Path(path).read_text(encoding="utf-8")) for path in (limit, use))
            free = min(free, max(0, most - used))
    return free
