"""The devices that jax computes on, and the error where an accelerator of this machine is not among them.

jax falls back to the CPU, with a warning at most, where the plugin of an accelerator is not installed or does
not fit. A run would then take a hundred times longer than its user expects.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.requirements import version_of

USE_CPU = "export JAX_PLATFORMS=cpu"
ROOT = Path("/")
"""Where device files are looked for."""
_LISTED = 10.0  # seconds that nvidia-smi may take
_GOOGLE = "0x1ae0"  # a vendor of PCI devices, of which network cards and disks are no TPUs
_NO_TPU = ("0x01", "0x02")
_TPU_VARIABLES = ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID")  # set on TPU VMs, in GKE and in Colab


@dataclass(frozen=True)
class Accelerator:
    """A kind of accelerator. `sign` says by what this machine shows one, given the root of its files and its
    environment; None where it shows none."""

    name: str
    platform: str
    """Its name in JAX_PLATFORMS; several are separated by |."""
    extra: str
    """Of tlc-jax, which installs what jax needs to use it."""
    plugins: Mapping[str, str]
    """Packages of which one is that plugin, each with the extra of jax that says which version it takes."""
    sign: Callable[[Path, Mapping[str, str]], str | None]

    @property
    def plugin(self) -> str | None:
        """The plugin that is installed, with its version."""
        installed = ((name, version_of(name)) for name in self.plugins)
        return next((f"{name} {version}" for name, version in installed if version), None)

    @property
    def missing(self) -> str:
        """The plugin that its extra installs."""
        return next(iter(self.plugins))

    @property
    def install(self) -> str:
        """The command that installs what jax needs to use it."""
        return f"pip install 'tlc-jax[{self.extra}]'"


class Unusable(UserError):
    """jax cannot compute on the devices that it should: `why`, and the `command` that mends it."""

    def __init__(self, why: str, command: str):
        use_cpu = "" if command == USE_CPU else f", or to compute on the CPU: {USE_CPU}"
        super().__init__(f"{why}: {command}{use_cpu}")
        self.why, self.command = why, command


def devices() -> list[Any]:
    """All devices that jax computes on. Unusable if it cannot start, or leaves an accelerator of this machine
    unused that JAX_PLATFORMS does not exclude."""
    import jax  # which may not be possible: doctor asks here what is wrong

    wanted = jax.config.jax_platforms or ""  # type: ignore[attr-defined]
    try:
        usable = jax.devices()
    except Exception as error:  # of a plugin; jax has an AssertionError where it starts no platform
        raise _not_started(wanted, one_line(error) if str(error) else "it gives no reason") from error
    if jax.default_backend() != "cpu" or wanted.split(",")[0] == "cpu":
        return usable
    if wanted:
        raise _not_started(wanted, "it has started the CPU only")
    for kind, sign in attached():
        raise _unused(kind, sign)
    return usable


def attached() -> Iterator[tuple[Accelerator, str]]:
    """The kinds of accelerators that this machine shows, each with its sign."""
    for kind in ACCELERATORS:
        if sign := kind.sign(ROOT, os.environ):
            yield kind, sign


def _not_started(wanted: str, reason: str) -> Unusable:
    for kind in ACCELERATORS:
        if wanted.split(",")[0] in kind.platform.split("|") and kind.plugin is None:
            why = f"jax should compute on {wanted} (JAX_PLATFORMS), but {kind.missing} is not installed"
            return Unusable(why, kind.install)
    named = f" {wanted} (JAX_PLATFORMS)" if wanted else ""
    return Unusable(f"jax cannot start{named} ({reason}); to compute on the CPU", USE_CPU)


def _unused(kind: Accelerator, sign: str) -> Unusable:
    shown = f"the {kind.name} of this machine ({sign}) would be unused"
    if kind.plugin is None:
        return Unusable(f"{shown}, since {kind.missing} is not installed", kind.install)
    command = f"JAX_PLATFORMS={kind.platform.split('|')[0]} python -c 'import jax; jax.devices()'"
    return Unusable(f"{shown}, though {kind.plugin} is installed; this command says why", command)


def _nvidia(root: Path, environment: Mapping[str, str]) -> str | None:
    """Device files that this process may open (a container or SLURM may forbid it), or what nvidia-smi lists:
    under WSL there are no such files."""
    if environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    files = sorted((root / "dev").glob("nvidia[0-9]*"))
    if usable := [file for file in files if os.access(file, os.R_OK | os.W_OK)]:
        return f"/{usable[0].relative_to(root)}"
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if files or program is None:
        return None
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=_LISTED, check=True)
    except (OSError, subprocess.SubprocessError):  # there is a program, but no driver
        return None
    first = listed.stdout.partition("\n")[0].partition(" (UUID")[0]
    return f"nvidia-smi lists {one_line(first, 80)}" if first.startswith("GPU ") else None


def _tpu(root: Path, environment: Mapping[str, str]) -> str | None:
    """Device files (/dev/accel0 up to v4; later ones have /dev/vfio/0, which other devices have too), or the
    variables of a TPU VM."""
    if files := sorted((root / "dev").glob("accel[0-9]*")):
        return f"/{files[0].relative_to(root)}"
    files = sorted((root / "dev" / "vfio").glob("[0-9]*"))
    if files and any(map(_is_tpu, (root / "sys/bus/pci/devices").glob("*"))):
        return f"/{files[0].relative_to(root)}"
    named = [f"{name}={environment[name]}" for name in _TPU_VARIABLES if environment.get(name)]
    return named[0] if named else None


def _is_tpu(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text(encoding="ascii") for name in ("vendor", "class"))
    except OSError:
        return False
    return vendor.strip() == _GOOGLE and not kind.startswith(_NO_TPU)


_CUDA = {"jax-cuda13-plugin": "cuda13-local", "jax-cuda12-plugin": "cuda12-local"}
ACCELERATORS = (
    Accelerator("NVIDIA GPU", "cuda|gpu", "cuda", _CUDA, _nvidia),
    Accelerator("TPU", "tpu", "tpu", {"libtpu": "tpu"}, _tpu),
)
