"""Whether numpy, jax and what builds on them can be imported, tried in a process of its own: a damaged
package, or XLA_FLAGS that XLA does not know, may end the process that tries it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from tlc_jax.checks.check import Failed, Plan, install_again
from tlc_jax.core.errors import one_line

_MODULES = ("numpy", "pyarrow", "tokenizers", "jaxlib", "jax", "flax")
_DEVICES = "jax.devices()"
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")  # of which XLA or libtpu may end the process
_LONGEST = 300.0  # seconds; a TPU takes ten to start
_PROGRAM = f"""
import contextlib, importlib, json, sys, traceback
for name in sys.argv[1:]:
    print(name, flush=True)
    try:
        importlib.import_module(name)
    except Exception as error:
        frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        inner = [frame for frame in frames if frame.partition(".")[0] not in ("", "__main__", "importlib")]
        reason = [line for line in str(error).splitlines() if line.strip()][-1:]  # advice stands before it
        module = getattr(error, "name", None) or (inner or [name])[-1]
        print(json.dumps([module, ": ".join([type(error).__name__, *reason])]))
        sys.exit(1)
print("{_DEVICES}", flush=True)
import jax
with contextlib.suppress(Exception):  # the check of the devices says so
    jax.devices()
"""


def imports(plan: Plan) -> str:
    """Whether the packages can be imported that a run computes with, and jax can start."""
    if all(name in sys.modules for name in _MODULES):
        return f"{', '.join(_MODULES)} are in use here"
    began = time.monotonic()
    command = [sys.executable, "-c", _PROGRAM, *_MODULES]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False
        )
    except subprocess.TimeoutExpired as error:
        last = (error.stdout or b"").decode(errors="replace").split()[-1:]
        raise Failed(f"{' '.join(last)} does not return within {_LONGEST:.0f} s", _start_alone()) from None
    if ended.returncode == 0:
        return f"{', '.join(_MODULES)} can be imported, in {time.monotonic() - began:.2g} s"
    lines = ended.stdout.splitlines() or [_MODULES[0]]
    if lines[-1].startswith("["):
        module, reason = json.loads(lines[-1])
        raise Failed(f"{lines[-2]} cannot be imported ({one_line(reason)})", install_again(module))
    raise Failed(*_aborted(lines[-1], ended))


def _aborted(step: str, ended: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """What a process was doing that ended without a word to Python, and the command that mends it."""
    try:
        how = signal.Signals(-ended.returncode).name
    except ValueError:
        how = f"exit code {ended.returncode}"
    last = one_line("".join(ended.stderr.splitlines()[-1:]).rpartition("] ")[2] or "it gives no reason")
    if step != _DEVICES:
        return f"importing {step} ends the process with {how} ({last})", install_again(step)
    why = f"jax ends the process when it starts, with {how} ({last})"
    named = [name for name in _VARIABLES if name in ended.stderr] or [
        name for name in _VARIABLES if os.environ.get(name)
    ]
    return why, f"unset {named[0]}" if named else _start_alone()


def _start_alone() -> str:
    """The command that shows all that jax says when it starts."""
    return "python -X faulthandler -c 'import jax; print(jax.devices())'"
