"""environment.json: each start of a run, with what command, versions and devices, and how the run began."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import platform
import sys
from typing import Any

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.schema import TypedDict, checked, record
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.untrusted import read_json

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tokenizers", "numpy", "tlc-jax")


@record
class _Environment(TypedDict):
    starts: list[dict[str, Any]]


def read_starts(rundir: RunDir) -> list[dict[str, Any]]:
    """The starts of a run, the first one first; none where environment.json does not exist."""
    if not rundir.environment.exists():
        return []
    try:
        return checked(read_json(rundir.environment), _Environment)["starts"]
    except (OSError, ValueError) as error:
        raise UserError(
            f"{rundir.environment} is damaged ({one_line(error)}): restore it, or remove it and run the "
            "whole command again that began the run, with its --config"
        ) from error


def record_start(rundir: RunDir, begin: dict[str, str | None]) -> None:
    """Add this process to environment.json; `begin` says how the run began."""
    import jax  # starts are read before it is needed

    from tlc_jax.parallel import hosts

    start = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        **begin,
        **versions(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": hosts.count(),
        "platform": platform.platform(),
    }
    write_json(rundir.environment, {"starts": [*read_starts(rundir), start]})


def versions() -> dict[str, Any]:
    """The versions of Python and of the packages that results depend on."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


@functools.cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a checkout that is not installed
