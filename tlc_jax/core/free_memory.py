"""Memory that a process may still use, given its machine and its container, and that it needs no more."""

from __future__ import annotations

import contextlib
import ctypes
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


def return_free_memory() -> None:
    """Give what was freed back to the system. The C library of Linux keeps what many large arrays have left,
    which would stand beside a model for as long as it is used; others have no such call, or need none."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
