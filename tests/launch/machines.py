"""The launch files on this machine: a cloud and a cluster that are programs on PATH."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LAUNCH = ROOT / "launch"
ODD = [
    "--workdir=gs://b/a b",
    "it's",
    '"x"',
    "$HOME",
    "`id`",
    "*",
    "",
    "a\nb",
    "\\",
    "-x",
    "ü",
    "a;b&c|d>e",
    "!",
]
UV = 'if [ "$1" = venv ]; then shift; for last; do :; done; mkdir -p "$last"; fi'
# the tasks of a step are signalled together, and not the batch script (`step` is their process group)
SRUN = """
printf '%s\\n' "$@" >"$FAKE_CLUSTER/options"
tasks=1
while case $1 in --*) true ;; *) false ;; esac; do
    case $1 in --nodes=*) tasks=${1#*=} ;; esac
    shift
done
SLURM_PROCID=0 SLURM_NTASKS=$tasks setsid --wait "$@" &
echo $! >"$FAKE_CLUSTER/step"
wait $!
"""
SQUEUE = 'echo "${FAKE_STATE-RUNNING}"'
SCONTROL = 'echo "$@" >>"$FAKE_CLUSTER/requests"; exit "${FAKE_SCONTROL-0}"'


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def search_path(folder: Path) -> str:
    """PATH with the programs in `folder` first, and `python` as it runs here."""
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@dataclass
class Cloud:
    """A folder in which the fake `gcloud` keeps nodes."""

    folder: Path
    look_every: float = 0.1  # seconds between two looks of a script

    def __post_init__(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        gcloud = Path(__file__).with_name("fake_gcloud.py")
        program(programs / "gcloud", f'#!/bin/sh\nexec {sys.executable} -IS {gcloud} "$@"\n')
        program(programs / "uv", f"#!/bin/sh\n{UV}\n")

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "FAKE_CLOUD": str(self.folder),
            "TLC_LOOK_EVERY": str(self.look_every),
            "PATH": search_path(self.folder / "bin"),
        }
        return {**os.environ, **ours}

    def plan(self, **plan: object) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(LAUNCH / script), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # under nohup these tests would hand on that SIGHUP is ignored
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(script, *arguments)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def calls(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def left(self) -> set[str]:
        """What still costs money, or is in the way of the next."""
        return {path.stem for path in self.folder.glob("*.json")} - {"plan"}


@dataclass
class Cluster:
    """Runs batch scripts as SLURM does: signals the tasks of a step, kills, and queues again."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("squeue", SQUEUE)):
            program(self.folder / name, f"#!/usr/bin/env bash\n{text}\n")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """A job, which begins at once."""
        (self.folder / "step").unlink(missing_ok=True)
        job = {"SLURM_JOB_ID": "7", "FAKE_CLUSTER": str(self.folder), "PATH": search_path(self.folder)}
        return subprocess.Popen(
            ["bash", str(LAUNCH / "slurm.sbatch"), *command],
            cwd=ROOT,
            env={**os.environ, **job, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def signal_tasks(self, number: int) -> None:
        path = self.folder / "step"
        wait_for(lambda: path.exists() and path.read_text().strip(), "a step")
        os.killpg(int(path.read_text()), number)

    def kill(self, job: subprocess.Popen[str]) -> None:
        """The node fails."""
        self.signal_tasks(signal.SIGKILL)
        os.killpg(job.pid, signal.SIGKILL)

    @property
    def requeued(self) -> list[str]:
        path = self.folder / "requests"
        return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: object, what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.05)


def words_in(text: str) -> list[list[str]]:
    """The arguments of each command of a dry run, as a shell reads them."""
    commands, pending = [], ""
    for line in text.split("\n"):
        if not pending and (line.startswith("#") or not line):
            continue
        pending += f"{line}\n"
        try:
            commands.append(shlex.split(pending))
        except ValueError:  # the line ends within quotes
            continue
        pending = ""
    assert not pending
    return commands
