"""launch/local_processes.py: several processes with fake devices on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.launch.machines import LAUNCH, ODD, wait_for, words_in

NOTES = """
import json, os, sys
index = int(sys.argv[sys.argv.index("--hosts.index") + 1])
print(json.dumps([os.environ["XLA_FLAGS"], os.environ["JAX_PLATFORMS"], sys.argv[2:]]))
sys.exit(json.loads(sys.argv[1])[index])
"""
SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    print("saved", flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1] + sys.argv[-1]).touch()
time.sleep(60)
"""


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(LAUNCH / "local_processes.py"), *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_each_process_gets_its_index_its_devices_and_the_arguments_unharmed() -> None:
    program = ["--", sys.executable, "-IS", "-c", NOTES, "[0, 0, 0]", *ODD]
    run = started("--processes", "3", "--devices", "2", *program, XLA_FLAGS="--xla_a=1")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    notes = {line[:3]: json.loads(line[4:]) for line in out.splitlines()}
    assert sorted(notes) == ["[0]", "[1]", "[2]"]
    ports = set()
    for index in range(3):
        flags, platforms, arguments = notes[f"[{index}]"]
        assert flags.split() == ["--xla_a=1", "--xla_force_host_platform_device_count=2"]
        assert platforms == "cpu"
        assert arguments[: len(ODD)] == ODD
        coordinator, processes, own = arguments[len(ODD) :: 2], arguments[len(ODD) + 1 :: 2], str(index)
        assert coordinator == ["--hosts.coordinator", "--hosts.processes", "--hosts.index"]
        ports.add(processes[0])
        assert processes[1:] == ["3", own]
    assert len(ports) == 1


@pytest.mark.parametrize(("codes", "code"), [("[0, 75]", 75), ("[75, 2]", 2), ("[134, 75]", 134)])
def test_the_exit_code_is_that_of_a_failure(codes: str, code: int) -> None:
    run = started("--", sys.executable, "-IS", "-c", NOTES, codes)
    run.communicate(timeout=60)
    assert run.returncode == code


def test_sigterm_reaches_all(tmp_path: Path) -> None:
    run = started("--", sys.executable, "-IS", "-c", SAVES, str(tmp_path / "ready"))
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, "the processes")
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, sorted(out.splitlines())) == (75, ["[0] saved", "[1] saved"]), err


def test_a_dry_run_prints_commands_that_a_shell_reads_as_meant() -> None:
    out, _ = started("--dry-run", "--", "train", *ODD).communicate(timeout=60)
    commands = words_in(out)
    assert [words[0] for words in commands] == ["env", "env"]
    assert [words[4 : 4 + len(ODD)] for words in commands] == [ODD, ODD]
    out, _ = started("--dry-run").communicate(timeout=60)
    assert "-m tlc_jax.train --config quickstart" in out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes outlive their launcher")
def test_the_processes_of_a_killed_launcher_save_and_end(tmp_path: Path) -> None:
    run = started("--", sys.executable, "-IS", "-c", SAVES, str(tmp_path / "ready"))
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2, "the processes")
    children = [child.pid for child in psutil.Process(run.pid).children()]
    run.kill()
    wait_for(lambda: not any(map(psutil.pid_exists, children)), "the end of both", 10)
    run.communicate()


def test_a_program_that_is_not_there() -> None:
    run = started("--", "/nonexistent/x")
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert err == "error: /nonexistent/x is not a program: give -- and a command\n"


def test_mistakes() -> None:
    run = started("--processes", "0", "--", "x")
    _, err = run.communicate(timeout=60)
    assert (run.returncode, "--processes must be at least 1" in err) == (2, True)
