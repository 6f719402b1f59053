"""Several processes that train one run: two of 4 fake CPU devices each, which talk through gloo."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders import lines, parameters
from tlc_jax import train
from tlc_jax.config.host_options import HostsOptions
from tlc_jax.core.errors import EXIT_INTERRUPTED, EXIT_USER, UserError
from tlc_jax.parallel.hosts import leader
from tlc_jax.parallel.slurm import step_tasks
from tlc_jax.runs.checkpoint import whole_steps

HEARTBEAT = 5


@dataclass(frozen=True)
class Ended:
    """How one process ended."""

    code: int
    out: str
    err: str

    @property
    def step(self) -> int:
        """Where its loop left off."""
        return json.loads(re.findall(r'^\{"step": .*\}$', self.err, re.M)[-1])["step"]


def together(
    troubles: list[dict[str, Any]],
    arguments: list[str],
    more: list[list[str]] | None = None,
    **environment: str,
) -> list[Ended]:
    """Runs the train command in one process for each trouble, and waits for all; each may have `more`
    options."""
    port = free_port()
    processes = []
    for index, trouble in enumerate(troubles):
        who = ["--hosts.coordinator", f"localhost:{port}", "--hosts.processes", str(len(troubles))]
        who += ["--hosts.index", str(index)]
        own = more[index] if more else []
        if "--hosts.heartbeat" not in own:
            own = [*own, "--hosts.heartbeat", str(HEARTBEAT)]
        command = [sys.executable, "-m", "tests.host", json.dumps(trouble), *arguments, *own, *who]
        processes.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**four_devices(), **environment},
            )
        )
    return [Ended(*outcome(process)) for process in processes]


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return process.returncode, out, err


def four_devices() -> dict[str, str]:
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")
    return {**os.environ, "XLA_FLAGS": flags}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def assert_close_runs(one: Path, other: Path) -> None:
    """The same batches, losses within 1e-5, parameters within 1e-5 and 1e-4 of their size."""
    for ours, theirs in zip(lines(one), lines(other), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert value == pytest.approx(theirs[name], rel=1e-5), name
    expected = parameters(other)
    for path, value in parameters(one).items():
        np.testing.assert_allclose(value, expected[path], atol=1e-5, rtol=1e-4, err_msg=path)


@pytest.fixture(scope="module")
def short(command):
    """Arguments of a run of eight updates of one micro-batch: gloo takes its time for each sum."""
    every = ["--checkpoint.every-steps", "3", "--evaluation.every-steps", "4", "--evaluation.max-rows", "16"]
    return lambda workdir, *more: command(
        workdir, "--micro-batch", "16", "--budget.steps", "8", *every, *more
    )


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_as_one(short, tmp_path: Path) -> None:
    """SIGTERM to the second of two saves the same step in both; one process of 8 devices ends what they
    began, and they end it, as one that was never interrupted."""
    stopped = together([{}, {"signal": [4, signal.SIGTERM]}], short(tmp_path / "two"))
    assert [ended.code for ended in stopped] == [EXIT_INTERRUPTED] * 2, stopped[0].err + stopped[1].err
    step = stopped[0].step
    assert step in (5, 6), "process 0 hears of it at its next look, or at the one after"
    assert stopped[1].step == step
    for index, ended in enumerate(stopped):
        assert f"process {index} of 2: interrupted after step {step}, saved" in ended.err
    assert whole_steps(tmp_path / "two" / "checkpoints")[-1] == step
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    went_on = together([{}, {}], short(tmp_path / "two"))
    assert [ended.code for ended in went_on] == [0, 0], went_on[0].err + went_on[1].err
    assert "of 2 processes" in went_on[0].out
    train.main(short(tmp_path / "unbroken"))
    assert_close_runs(tmp_path / "two", tmp_path / "unbroken")
    train.main(short(tmp_path / "one"))
    assert_close_runs(tmp_path / "one", tmp_path / "unbroken")


@pytest.mark.slow
def test_clocks_that_are_100_seconds_apart(short, tmp_path: Path) -> None:
    """The budget is one of training seconds, and by the clock of process 1 it is over before it begins. Both
    stop at the same step, and what process 1 could not save of step 2 fails for both, and is survived."""
    budget = ["--budget.steps", "None", "--budget.training-seconds", "4", "--schedule.follows"]
    more = [*budget, "training_seconds", "--checkpoint.every-steps", "2"]
    ended = together([{}, {"clock_ahead": 100, "full_disk": 2}], short(tmp_path / "w", *more))
    assert [one.code for one in ended] == [0, 0], ended[0].err + ended[1].err
    assert ended[0].step == ended[1].step >= 2
    assert "saving step 2 to" in ended[0].out
    assert "No space left on device" in ended[0].out
    last = lines(tmp_path / "w")[-1]
    assert last["step"] == ended[0].step == whole_steps(tmp_path / "w" / "checkpoints")[-1]


@pytest.mark.slow
def test_a_dead_peer_ends_the_run(short, tmp_path: Path) -> None:
    survivor, dead = together([{}, {"signal": [3, signal.SIGKILL]}], short(tmp_path / "w"))
    assert dead.code == -signal.SIGKILL
    assert survivor.code == EXIT_INTERRUPTED, survivor.err
    assert (
        f"process 1 of 2 has given no sign of life for {HEARTBEAT} s; start all processes again"
        in survivor.err
    )


@pytest.mark.slow
def test_a_peer_that_fails_is_quoted(short, tmp_path: Path) -> None:
    survivor, failed = together([{}, {"fail": 3}], short(tmp_path / "w"))
    assert (failed.code, survivor.code) == (EXIT_USER, EXIT_INTERRUPTED), survivor.err + failed.err
    assert "process 1 of 2: error: this one fails" in failed.err
    assert "process 0 of 2: ended with process 1 of 2: this one fails" in survivor.err


@pytest.mark.slow
def test_what_is_wrong_for_one_is_wrong_for_all(short, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "thesis.txt").write_text("mine")
    ended = together([{}, {}], short(tmp_path / "w"))
    assert [one.code for one in ended] == [EXIT_USER] * 2
    assert all("is not empty and holds no run" in one.err for one in ended)


@pytest.mark.slow
def test_processes_with_different_options_train_nothing(short, tmp_path: Path) -> None:
    ended = together([{}, {}], short(tmp_path / "w"), more=[[], ["--seed", "5"]])
    assert [one.code for one in ended] == [EXIT_USER] * 2, ended[0].err + ended[1].err
    assert all("in process 1, seed is 5 but process 0 has 0. Give all" in one.err for one in ended)
    ended = together([{}, {}], short(tmp_path / "w"), more=[["--hosts.heartbeat", "9"], []])
    assert [one.code for one in ended] == [EXIT_USER] * 2, ended[0].err + ended[1].err
    assert all("in process 1, --hosts.heartbeat is 5.0 but process 0 has 9.0" in one.err for one in ended)
    assert not (tmp_path / "w").exists()


ALONE = """
import sys
from tlc_jax.core.entry_point import run_command
from tlc_jax.config.host_options import HostsOptions
from tlc_jax.parallel import joining
joining.PATIENCE, joining._FIRST_REPORT = float(sys.argv[1]), 0.2
who = (int(number) for number in sys.argv[3:])
run_command(lambda: joining.join(HostsOptions(sys.argv[2], *who)))
"""


def started(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**four_devices(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_who_waits_for_others_says_so_and_not_for_ever() -> None:
    address = f"localhost:{free_port()}"
    first = started(ALONE, "60", address, "3", "0")
    early = started(ALONE, "1", f"localhost:{free_port()}", "3", "1")
    nobody = started(ALONE, "60", "auto", JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1")
    assert first.stderr is not None
    line = first.stderr.readline()
    assert f"the others look for {address}; not all of the 3 processes have come (0 s)" in line
    another = started(ALONE, "60", address, "3", "0")
    says = {
        early: "process 1 finds no process 0 at localhost",
        nobody: "no cluster tells who the processes are",
        another: "is another process 0 there already?",
    }
    for process, text in says.items():
        code, _, err = outcome(process)
        assert (code, text in err) == (EXIT_USER, True), err
    first.terminate()
    code, _, err = outcome(first)
    assert (code, "interrupted while waiting for other" in err) == (EXIT_INTERRUPTED, True), err


SLURM = """
import json, sys
from tlc_jax.config.host_options import HostsOptions
from tlc_jax.parallel import hosts
from tlc_jax.parallel.hosts import leader
from tlc_jax.parallel.peers import joined
with joined(HostsOptions(heartbeat=5)):
    said = leader.gather(leader.decide(lambda: leader.decide(lambda: {"from": "0"})))
    why = ""
    while not why:
        mine = leader.stop_reason("" if hosts.is_first() else "why")
        why = leader.decide(lambda: mine)
    print(json.dumps([hosts.count(), said, why]))
"""


@pytest.mark.slow
def test_slurm_tells_its_tasks_who_they_are() -> None:
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [started(SLURM, **job, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)) for i in range(2)]
    for task in tasks:
        code, out, err = outcome(task)
        assert code == 0, err
        assert json.loads(out.splitlines()[-1]) == [2, [{"from": "0"}] * 2, "why"]


SLURM_ALONE = """
import sys
from tlc_jax.core.entry_point import run_command
from tlc_jax.config.host_options import HostsOptions
from tlc_jax.parallel import joining
joining.PATIENCE, joining._FIRST_REPORT = 2, 0.2
run_command(lambda: joining.join(HostsOptions(processes=int(sys.argv[1]) or None)))
print("alone")
"""


@pytest.mark.slow
def test_a_shell_of_slurm_tells_whom_it_waits_for_and_how_not_to() -> None:
    """`srun --pty bash`, then a command in it: the variables are those of the shell."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "4"}
    job |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_PTY_PORT": "40000"}
    waiting = started(SLURM_ALONE, "0", **job)
    step_of_one = started(SLURM_ALONE, "0", **job, SLURM_STEP_NUM_TASKS="1")
    alone = started(SLURM_ALONE, "1", **job)
    code, _, err = outcome(waiting)
    first, last = err.splitlines()[0], err.splitlines()[-1]
    why = "SLURM_NTASKS=4 of this shell (srun --pty) says that this is task 0 of several, but not all other"
    todo = "start all at about the same time with srun, or give --hosts.processes 1 to train alone"
    assert code == EXIT_USER
    assert first.startswith(f"{why} processes have come (0 s): {todo}"), err
    assert last == f"error: {why} processes have come, in 2 s: {todo}"
    for process in (step_of_one, alone):
        code, out, err = outcome(process)
        assert (code, out.splitlines()[-1:]) == (0, ["alone"]), err


@pytest.mark.parametrize(
    ("variables", "tasks"),
    [
        ({}, 1),
        ({"SLURM_NTASKS": "4"}, 1),  # a batch script, not a step
        ({"SLURM_STEP_NODELIST": "a"}, 1),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "4"}, 4),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, 1),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "4"}, 4),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "two"}, None),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "-1"}, None),
        ({"SLURM_STEP_NODELIST": "a", "SLURM_NTASKS": ""}, None),
    ],
)
def test_how_many_tasks_slurm_has_started(
    variables: dict[str, str], tasks: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if tasks is not None:
        assert step_tasks() == tasks
        return
    with pytest.raises(UserError, match="which is not a number of tasks"):
        step_tasks()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"coordinator": "localhost:1"}, "needs"),
        ({"processes": 2}, "need"),
        ({"processes": 1, "index": 1}, "need"),
        ({"coordinator": "auto", "processes": 1}, "need"),
        ({"coordinator": "localhost", "processes": 2, "index": 0}, "neither ADDRESS:PORT"),
        ({"coordinator": "12345", "processes": 1, "index": 0}, "neither ADDRESS:PORT"),
        ({"coordinator": "AUTO"}, "neither ADDRESS:PORT nor 'auto'"),
        ({"coordinator": "localhost:99999", "processes": 2, "index": 0}, "neither ADDRESS:PORT"),
        ({"coordinator": "localhost:1", "processes": 2, "index": 2}, "below --hosts.processes 2"),
        ({"heartbeat": 0.5}, "at least 1 second"),
        ({"heartbeat": math.nan}, "at least 1 second"),
    ],
)
def test_options_that_do_not_go_together(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        HostsOptions(**options).check()


def test_one_process_asks_nobody() -> None:
    assert leader.decide(lambda: 3) == leader.only(lambda: 3) == 3
    assert leader.gather("word") == ["word"]
    assert (leader.stop_reason(""), leader.stop_reason("why")) == ("", "why")
