"""slurm.sbatch on a cluster that is this machine (tests/launch/machines.py)."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.launch.machines import LAUNCH, ODD, Cluster, wait_for

NOTES = """
import json, os, pathlib, sys
note = {name: os.environ.get(name) for name in ("SLURM_PROCID", "SLURM_NTASKS", "JAX_LOCAL_DEVICE_IDS")}
pathlib.Path(sys.argv[1]).write_text(json.dumps([note, sys.argv[3:]]))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "cluster")


def outcome(cluster: Cluster, code: int, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code and the output of a job whose command ends with `code`."""
    command = ["python", "-IS", "-c", NOTES, str(cluster.folder / "note"), str(code), *arguments]
    job = cluster.start(*command, **environment)
    out, _ = job.communicate(timeout=60)
    return job.returncode, out


@pytest.mark.parametrize(
    ("code", "ends_with", "requeued", "says"),
    [
        (0, 0, [], ""),
        (75, 0, ["requeue 7"], "interrupted and saved: job 7 is queued again (restart 3)"),
        (2, 1, [], "task 0 ended with exit code 2"),
        (137, 1, [], "error: the command failed: the job is not queued again"),
    ],
)
def test_a_job_is_queued_again_if_it_was_interrupted(
    code: int, ends_with: int, requeued: list[str], says: str, cluster: Cluster
) -> None:
    ended, out = outcome(cluster, code, *ODD, SLURM_RESTART_COUNT="2")
    assert (ended, cluster.requeued, says in out) == (ends_with, requeued, True), out
    note, arguments = json.loads((cluster.folder / "note").read_text())
    assert arguments == ODD
    assert note["JAX_LOCAL_DEVICE_IDS"] is None


def test_a_job_that_cannot_be_queued_again_says_what_to_do(cluster: Cluster) -> None:
    ended, out = outcome(cluster, 75, FAKE_SCONTROL="1")
    assert ended == 75
    assert "submit it once more, and it resumes" in out


@pytest.mark.parametrize("state", ["COMPLETING", "CANCELLED", ""])
def test_a_job_that_was_cancelled_is_not_queued_again(state: str, cluster: Cluster) -> None:
    ended, out = outcome(cluster, 75, FAKE_STATE=state)
    assert (ended, cluster.requeued) == (75, []), out
    assert f"job 7 is {state or 'gone'} and is not queued again" in out


def test_each_node_has_one_task_with_all_of_its_gpus(cluster: Cluster) -> None:
    """jax would give a task of several the one GPU of its number."""
    environment = {"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "24"}
    assert outcome(cluster, 0, **environment)[0] == 0
    note, _ = json.loads((cluster.folder / "note").read_text())
    assert note == {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "JAX_LOCAL_DEVICE_IDS": "0,1,2,3"}
    options = (cluster.folder / "options").read_text().split("\nbash\n")[0].splitlines()
    assert options == ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=24", "--kill-on-bad-exit=0"]


SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    time.sleep(0.3)
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("batch_too", [False, True])
def test_the_shells_live_until_the_command_has_saved(batch_too: bool, cluster: Cluster) -> None:
    """SIGTERM goes to all processes of the tasks, and at preemption perhaps to the batch script."""
    job = cluster.start("python", "-IS", "-c", SAVES, str(cluster.folder / "ready"))
    wait_for((cluster.folder / "ready").exists, "the command")
    if batch_too:
        job.send_signal(signal.SIGTERM)
    cluster.signal_tasks(signal.SIGTERM)
    out, _ = job.communicate(timeout=60)
    assert (job.returncode, cluster.requeued) == (0, ["requeue 7"]), out


def test_sbatch_is_asked_for_what_resuming_needs() -> None:
    options = {
        line.split()[1].partition("=")[0]: line.split()[1].partition("=")[2]
        for line in (LAUNCH / "slurm.sbatch").read_text().splitlines()
        if line.startswith("#SBATCH")
    }
    assert "--requeue" in options
    assert options["--open-mode"] == "append", "the log of the first start is kept"
    assert options["--signal"] == "TERM@300", "to the tasks alone: a B: would signal the shell"


def test_outside_of_a_job_nothing_is_run(cluster: Cluster) -> None:
    job = cluster.start("touch", str(cluster.folder / "ran"), SLURM_JOB_ID="")
    out, _ = job.communicate(timeout=60)
    assert (job.returncode, "this is no job of SLURM: give sbatch" in out) == (2, True), out
    assert not (cluster.folder / "ran").exists()


def test_one_failed_task_is_not_hidden_by_others_that_were_interrupted() -> None:
    """srun returns the highest code: that of a failure has to be above 75, and 75 itself unchanged."""
    text = (LAUNCH / "slurm.sbatch").read_text()
    task = text.partition("task='")[2].partition("'\n")[0]
    codes = {
        code: subprocess.run(["bash", "-c", task, "task", "sh", "-c", f"exit {code}"], check=False).returncode
        for code in (0, 1, 2, 75, 134, 137)
    }
    assert (codes.pop(0), codes.pop(75)) == (0, 75)
    assert min(codes.values()) > 75
