"""Programs that the compiler has made are kept for the next start of the same config; those for TPUs that are
not here are not.

Jax and libtpu read this from their environment, so it comes before jax is imported, and a user's own
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
    """Names a folder for them to jax; where none can be made, or there is no home, nothing is kept."""
    if VARIABLE in os.environ:
        return
    with contextlib.suppress(OSError, RuntimeError):
        folder = Path(FOLDER).expanduser() / _processor()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            os.environ[VARIABLE] = str(folder)


def look_for_no_tpu() -> None:
    """Jax does not look for a TPU here, nor libtpu for its neighbours."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # programs for an absent TPU cannot be read again
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",  # libtpu complains where this and the next are not known
        "TPU_ACCELERATOR_TYPE": "v3-8",  # of any kind: the topology alone says what is compiled for
    }


def _processor() -> str:
    """One folder for each kind of processor: homes are shared between machines, jax's keys do not tell CPUs
    apart, and a program made for a newer one ends an older one's process."""
    about = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        about += sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]
