"""The persistent compilation cache, and compilation for TPUs that are not attached.

Jax and libtpu read their environment when they are imported, so both functions are called before that.
Imports only the standard library.
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
    """Let jax cache compiled programs in a folder of the user's, unless JAX_COMPILATION_CACHE_DIR is set.
    Nothing is cached if the folder cannot be made or there is no home."""
    if VARIABLE in os.environ:
        return
    with contextlib.suppress(OSError, RuntimeError):
        folder = Path(FOLDER).expanduser() / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ[VARIABLE] = str(folder)


def look_for_no_tpu() -> None:
    """Keep jax from searching for a TPU on this machine, and libtpu for its neighbours."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # a cached program for an absent TPU cannot be loaded
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",  # libtpu complains if this and the next are unset
        "TPU_ACCELERATOR_TYPE": "v3-8",  # any kind: programs are compiled for a given topology
    }


def _processor() -> str:
    """A name for this kind of processor. Home folders are shared between machines, jax's cache keys do not
    distinguish CPUs, and a program compiled for a newer CPU crashes on an older one."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        about += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
