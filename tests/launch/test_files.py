"""All launch files: shellcheck, what a dry run prints, names that clouds know, and what documents give."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.launch.machines import LAUNCH, ODD, ROOT, program, search_path, words_in
from tests.project.documents import DOCUMENTS, Command, commands

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"])
# names that `sky gpus list --all` shows, as far as one of our files may want them
ACCELERATORS = {
    *(f"tpu-v{version}-{cores}" for version in (2, 3, 4) for cores in (8, 32)),
    *(f"tpu-v{version}-{chips}" for version in ("5litepod", "6e") for chips in (1, 4, 8, 16)),
    *("L4", "T4", "V100", "A10G", "A100", "A100-80GB", "H100", "H200", "L40S"),
}
# https://docs.cloud.google.com/tpu/docs/runtimes
RUNTIMES = {
    "v2-8": "tpu-ubuntu2204-base",
    "v3-8": "tpu-ubuntu2204-base",
    "v4-16": "tpu-ubuntu2204-base",
    "v5litepod-8": "v2-alpha-tpuv5-lite",
}
# https://docs.cloud.google.com/compute/docs/tpus/tpu-machines
MACHINES = [
    ("ct6e-standard-1t", "", 1),
    ("ct6e-standard-4t", "4x4", 4),
    ("ct6e-standard-4t", "16x16", 64),
    ("ct5p-hightpu-4t", "2x2x4", 4),
    ("tpu7x-standard-4t", "2x2x1", 1),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script: Path) -> None:
    checked = subprocess.run(
        ["shellcheck", "--external-sources", str(script.relative_to(ROOT))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": search_path(Path(sys.executable).parent)},
    )
    assert checked.returncode == 0, checked.stdout


@pytest.fixture
def no_cloud(tmp_path: Path) -> dict[str, str]:
    """An environment in which each program that a launch file may not execute in a dry run complains."""
    for name in ("gcloud", "tar", "srun", "scontrol", "sbatch"):
        program(tmp_path / name, f"#!/bin/sh\necho {name} was called >&2\nexit 9\n")
    return {**os.environ, "PATH": search_path(tmp_path)}


def dry_run(environment: dict[str, str], *command: str) -> str:
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ("tpu_vm.sh", 0, "TPU v2 to v5e"),
        ("tpu_group.sh", 0, "TPU v6e"),
        ("slurm.sbatch", 0, "Runs a command in one task a node"),
        ("nodes.sh", 2, "nodes.sh is a part of tpu_vm.sh and tpu_group.sh: see launch/tpu_vm.sh --help"),
    ],
)
def test_help_also_through_a_link(script: str, code: int, says: str, tmp_path: Path) -> None:
    (tmp_path / script).symlink_to(LAUNCH / script)
    for path in (LAUNCH / script, tmp_path / script):
        ended = subprocess.run(["bash", path, "--help"], capture_output=True, text=True, check=False)
        assert ended.returncode == code
        assert (ended.stdout + ended.stderr).strip().startswith(says)


@pytest.mark.parametrize("script", ["tpu_vm.sh", "tpu_group.sh"])
@pytest.mark.parametrize("verb", ["up", "run", "logs", "status", "watch", "down"])
def test_a_dry_run_prints_each_command_and_executes_none(
    script: str, verb: str, no_cloud: dict[str, str]
) -> None:
    given = ["--", "python", *ODD] if verb in ("run", "watch") else []
    printed = words_in(dry_run(no_cloud, f"launch/{script}", verb, "--dry-run", *given))
    assert {words[0] for words in printed} <= {"gcloud", "tar"}
    starts = [words for words in printed if any("on_node.sh start" in word for word in words)]
    assert len(starts) == bool(given)
    for words in starts:
        line = next(word for word in words if word.startswith("--command="))
        assert shlex.split(line.removeprefix("--command="))[3:] == ["python", *ODD]


def test_a_dry_run_of_slurm_prints_what_it_would_execute(no_cloud: dict[str, str]) -> None:
    printed = dry_run(no_cloud, "bash", "launch/slurm.sbatch", "--dry-run", "python", *ODD)
    assert "sbatch option --signal=TERM@300" in printed
    step = printed.partition("\nsrun ")[2].partition("\n# if")[0]
    script = "import sys, json; print(json.dumps(sys.argv[1:]))"
    shell = ["bash", "-c", f"set -- {step}; exec {sys.executable} -IS -c '{script}' \"$@\""]
    words = yaml.safe_load(subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert words[-len(ODD) - 1 :] == ["python", *ODD]
    assert "python -m tlc_jax.train --config quickstart" in dry_run(
        no_cloud, "bash", "launch/slurm.sbatch", "--dry-run"
    )


@pytest.mark.parametrize(("kind", "runtime"), RUNTIMES.items())
def test_each_kind_of_tpu_gets_its_runtime(kind: str, runtime: str, no_cloud: dict[str, str]) -> None:
    printed = dry_run(no_cloud, "launch/tpu_vm.sh", "up", "--dry-run", "--type", kind, "--on-demand")
    assert f" --accelerator-type={kind} --runtime-version={runtime} " in printed
    assert "--spot" not in printed
    printed = dry_run(no_cloud, "launch/tpu_group.sh", "up", "--dry-run", "--on-demand")
    assert " --provisioning-model=STANDARD " in printed


@pytest.mark.parametrize(("machine", "topology", "hosts"), MACHINES)
def test_a_slice_has_as_many_hosts_as_its_topology_needs(
    machine: str, topology: str, hosts: int, no_cloud: dict[str, str]
) -> None:
    options = ["--machine-type", machine, *([f"--topology={topology}"] if topology else [])]
    printed = dry_run(no_cloud, "launch/tpu_group.sh", "up", "--dry-run", *options)
    assert f" --size={hosts} " in printed
    assert (f" --accelerator-topology={topology} " in printed) == (hosts > 1)


# --- SkyPilot -----------------------------------------------------------------------------------------------

SKY = yaml.safe_load((LAUNCH / "sky.yaml").read_text())


def test_sky_asks_for_accelerators_that_there_are() -> None:
    """SkyPilot itself accepts any name until it looks for a machine."""
    asked = [choice["accelerators"] for choice in SKY["resources"]["any_of"]]
    assert {name.partition(":")[0] for name in asked} <= ACCELERATORS
    assert any(name.startswith("tpu-") for name in asked)
    tpus = [choice for choice in SKY["resources"]["any_of"] if choice["accelerators"].startswith("tpu-")]
    for choice in tpus:
        kind = choice["accelerators"].removeprefix("tpu-")
        assert choice["accelerator_args"]["runtime_version"] == RUNTIMES[kind]


def test_sky_takes_up_what_was_interrupted_and_no_failure() -> None:
    assert SKY["resources"]["use_spot"] is True
    assert SKY["resources"]["job_recovery"] == {"recover_on_exit_codes": [75]}


def test_the_command_reaches_a_machine_of_sky_unharmed(tmp_path: Path) -> None:
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    command = shlex.join([sys.executable, "-IS", "-c", script, *ODD])
    environment = {**os.environ, "COMMAND": command, "HOME": str(tmp_path)}
    ran = subprocess.run(["bash", "-c", SKY["run"]], env=environment, stdout=subprocess.PIPE, text=True)
    assert (ran.returncode, yaml.safe_load(ran.stdout)) == (0, ODD)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("python -m tlc_jax.train --workdir gs://b/x", 0),
        ("python -m tlc_jax.train --workdir='gs://b/a b'", 0),
        ("python -m tlc_jax.train --workdir runs/x", 2),
    ],
)
def test_sky_needs_a_run_directory_that_outlives_the_machine(command: str, code: int, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program(tmp_path / "uv", f'#!/bin/sh\necho "$@" >>{calls}\n')
    program(tmp_path / "nvidia-smi", "#!/bin/sh\n")
    environment = {**os.environ, "COMMAND": command, "HOME": str(tmp_path), "PATH": search_path(tmp_path)}
    ended = subprocess.run(
        ["bash", "-c", f"set -e\n{SKY['setup']}"], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == code, ended.stderr
    assert ("COMMAND needs --workdir gs://BUCKET/FOLDER" in ended.stderr) == bool(code)
    assert calls.exists() == (code == 0)
    assert code or calls.read_text().endswith("-e .[cuda,gcs]\n")


# --- documents ----------------------------------------------------------------------------------------------

LAUNCHED = [
    command
    for document in DOCUMENTS
    for command in commands(document)
    if re.match(r"(launch/|sbatch |bash launch/|python launch/)", command.text)
]


@pytest.mark.parametrize("command", LAUNCHED, ids=str)
def test_commands_of_documents_run_dry(command: Command, no_cloud: dict[str, str]) -> None:
    words = shlex.split(command.text, comments=True)
    if words[0] == "sbatch":
        at = words.index("launch/slurm.sbatch")
        assert all(re.fullmatch(r"--[a-z-]+=\S+", option) for option in words[1:at])
        words = ["bash", *words[at:]]
    at = 1 + next(i for i, word in enumerate(words) if word.startswith("launch/"))
    at += words[0].endswith(".sh")  # after the verb
    words[0] = words[0].replace("python", sys.executable)
    printed = dry_run(no_cloud, *words[:at], "--dry-run", *words[at:])
    assert words_in(printed)


def test_documents_show_each_launch_file() -> None:
    named = {name for command in LAUNCHED for name in re.findall(r"launch/(\w+\.\w+)", command.text)}
    assert {"tpu_vm.sh", "tpu_group.sh", "slurm.sbatch", "local_processes.py"} <= named
