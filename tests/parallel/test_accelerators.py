"""An accelerator of the machine that jax would leave unused is an error, unless JAX_PLATFORMS says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.builders import machine, train
from tlc_jax.core.errors import UserError
from tlc_jax.parallel import accelerators

GOOGLE = {"vendor": "0x1ae0\n"}
TPU, NETWORK_CARD = GOOGLE | {"class": "0x088000\n"}, GOOGLE | {"class": "0x020000\n"}


def program(folder: Path, text: str) -> Path:
    """A program in the place of nvidia-smi, and the folder that has it."""
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "nvidia-smi").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("devices", "pci", "shown", "command"),
    [
        (
            ["nvidia0", "nvidia1", "nvidiactl"],
            None,
            "the NVIDIA GPU of this machine (/dev/nvidia0)",
            "tlc-jax[cuda]",
        ),
        (["accel0", "accel1"], None, "the TPU of this machine (/dev/accel0)", "tlc-jax[tpu]"),
        (["vfio/0", "vfio/vfio"], TPU, "the TPU of this machine (/dev/vfio/0)", "tlc-jax[tpu]"),
    ],
)
def test_device_files_show_an_accelerator(
    devices: list[str], pci: dict[str, str] | None, shown: str, command: str, tmp_path: Path, free_choice
) -> None:
    free_choice.setattr(accelerators, "ROOT", machine(tmp_path, *devices, pci=pci))
    free_choice.setattr(accelerators, "version_of", lambda name: None)
    with pytest.raises(accelerators.Unusable) as refused:
        accelerators.devices()
    assert refused.value.why.startswith(f"{shown} would be unused, since ")
    assert refused.value.why.endswith(" is not installed")
    assert refused.value.command == f"pip install '{command}'"
    assert "or to compute on the CPU: export JAX_PLATFORMS=cpu" in str(refused.value)
    free_choice.setattr(accelerators, "version_of", lambda name: "1.0")
    with pytest.raises(
        accelerators.Unusable, match=r"though .* 1.0 is installed; this command says why: JAX"
    ):
        accelerators.devices()
    jax.config.update("jax_platforms", "cpu")
    assert accelerators.devices() == jax.devices()


@pytest.mark.parametrize(
    ("devices", "pci"),
    [
        (["nvidiactl", "nvidia-uvm", "accel/accel0"], None),  # a driver without GPU; a laptop's NPU
        (["vfio/0", "vfio/vfio"], {"vendor": "0x10de\n", "class": "0x030000\n"}),
        (["vfio/0"], NETWORK_CARD),
        (["vfio/vfio"], TPU),
    ],
)
def test_other_devices_are_no_accelerators(
    devices: list[str], pci: dict[str, str] | None, tmp_path: Path, free_choice
) -> None:
    free_choice.setattr(accelerators, "ROOT", machine(tmp_path, *devices, pci=pci))
    assert accelerators.devices() == jax.devices()


def test_a_gpu_that_is_hidden_is_not_missed(tmp_path: Path, free_choice) -> None:
    free_choice.setattr(accelerators, "ROOT", machine(tmp_path, "nvidia0"))
    for value in ("", "-1"):
        free_choice.setenv("CUDA_VISIBLE_DEVICES", value)
        assert accelerators.devices() == jax.devices()
    free_choice.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(accelerators.Unusable, match="NVIDIA GPU"):
        accelerators.devices()


def test_variables_of_a_tpu_vm_show_a_tpu(free_choice) -> None:
    free_choice.setenv("TPU_ACCELERATOR_TYPE", "v3-8")
    with pytest.raises(accelerators.Unusable, match=r"the TPU .*\(TPU_ACCELERATOR_TYPE=v3-8\)"):
        accelerators.devices()


def test_nvidia_smi_is_asked_where_there_are_no_device_files(tmp_path: Path, free_choice) -> None:
    listing = program(tmp_path / "lists", "echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'")
    free_choice.setenv("PATH", str(listing))
    with pytest.raises(accelerators.Unusable, match=r"\(nvidia-smi lists GPU 0: NVIDIA H100 80GB HBM3\)"):
        accelerators.devices()
    for name, text in (("fails", "echo no driver; exit 9"), ("nothing", "exit 0"), ("odd", "echo hello")):
        free_choice.setenv("PATH", str(program(tmp_path / name, text)))
        assert accelerators.devices() == jax.devices()


def test_the_cpu_is_an_error_where_an_accelerator_was_asked_for(free_choice) -> None:
    """As jax itself does not see it: it leaves out CUDA where there is no device file."""
    jax.config.update("jax_platforms", "cuda,cpu")
    with pytest.raises(accelerators.Unusable) as refused:
        accelerators.devices()
    assert refused.value.why.startswith(
        "jax should compute on cuda,cpu (JAX_PLATFORMS), but jax-cuda13-plugin"
    )
    free_choice.setattr(accelerators, "version_of", lambda name: "1.0")
    with pytest.raises(accelerators.Unusable, match=r"jax cannot start cuda,cpu \(JAX_PLATFORMS\) \(it has"):
        accelerators.devices()


def test_what_jax_says_is_passed_on(free_choice) -> None:
    def busy() -> None:
        raise RuntimeError("Unable to initialize backend 'tpu': The TPU is already in use by process 7")

    free_choice.setattr(jax, "devices", busy)
    with pytest.raises(UserError, match=r"already in use by process 7\); to compute on the CPU: export JAX_"):
        accelerators.devices()


def test_train_refuses_before_it_writes(command, tmp_path: Path, free_choice) -> None:
    free_choice.setattr(accelerators, "ROOT", machine(tmp_path / "root", "accel0"))
    for more in ([], ["--dry-run"]):
        with pytest.raises(UserError, match=r"the TPU of this machine \(/dev/accel0\) would be unused"):
            train.main(command(tmp_path / "run", *more))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_end_with_a_sentence(command, tmp_path: Path) -> None:
    gpu = program(tmp_path / "bin", "echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'")
    path = f"{gpu}{os.pathsep}{os.environ['PATH']}"
    for platforms, said in (
        (
            "",
            "(nvidia-smi lists GPU 0: NVIDIA H100) would be unused, since jax-cuda13-plugin is not",
        ),
        (
            "cuda",
            "jax should compute on cuda (JAX_PLATFORMS), but jax-cuda13-plugin is not installed: pip ins",
        ),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "tlc_jax.train", *command(tmp_path / "run")],
            env={**os.environ, "PATH": path, "JAX_PLATFORMS": platforms},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
