"""Programs that the compiler has made are kept for the next start of the same config.

Jax reads where from its environment, so this comes before jax is imported, and a user's own
JAX_COMPILATION_CACHE_DIR stands. Imports only the standard library.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
FOLDER = "~/.cache/tlc_jax/compiled"


def keep_compiled_programs() -> None:
    """Names a folder for them to jax; where none can be made, nothing is kept."""
    if VARIABLE in os.environ:
        return
    folder = Path(FOLDER).expanduser() / _processor()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ[VARIABLE] = str(folder)


def _processor() -> str:
    """One folder for each kind of processor: homes are shared between machines, jax's keys do not tell CPUs
    apart, and a program made for a newer one ends an older one's process."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
