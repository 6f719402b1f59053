"""The launch files' own commands, killed and started again until they are done: the run equals one that was
never interrupted, bit for bit. The machines are those of tests/launch/machines.py."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.bucket import Bucket
from tests.builders import assert_equal_runs
from tests.launch.machines import LAUNCH, ROOT, Cloud, Cluster, search_path, wait_for
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.storage.paths import parse_path
from tlc_jax.training.metrics import read_metrics

pytestmark = pytest.mark.slow
STEPS = 60
MORE = ["--model.num-layers", "1", "--micro-batch", "16", "--checkpoint.every-steps", "10"]
MORE += ["--evaluation.every-steps", "30", "--evaluation.max-rows", "16", "--budget.steps", str(STEPS)]


@pytest.fixture(scope="module")
def arguments(command: Callable[..., list[str]]) -> Callable[[str | Path], list[str]]:
    return lambda workdir: command(workdir, *MORE)


@pytest.fixture(scope="module", autouse=True)
def one_device() -> Iterator[None]:
    """In the children, which start sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"))
        yield


@pytest.fixture(scope="module")
def unbroken(arguments, one_device: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    command = [sys.executable, "-m", "tlc_jax.train", *arguments(workdir)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return workdir


def last_step(workdir: Path) -> int:
    """Of the metrics that are written by now."""
    path = workdir / "metrics.jsonl"
    steps = [line["step"] for line in read_metrics(path)] if path.exists() else []
    return max(steps, default=0)


def wait_for_step(workdir: Path, step: int) -> None:
    wait_for(lambda: last_step(workdir) >= step, f"step {step} of {workdir}")


def test_slurm_stops_a_job_then_loses_a_node(arguments, unbroken: Path, tmp_path: Path) -> None:
    cluster, workdir = Cluster(tmp_path / "cluster"), tmp_path / "a run"
    command = ["python", "-m", "tlc_jax.train", *arguments(workdir)]
    first = cluster.start(*command)
    wait_for_step(workdir, 8)
    first.send_signal(signal.SIGTERM)  # ahead of the limit the tasks get it; at preemption, the shell too
    cluster.signal_tasks(signal.SIGTERM)
    out, _ = first.communicate(timeout=200)
    assert (first.returncode, cluster.requeued) == (0, ["requeue 7"]), out
    saved = whole_steps(workdir / "checkpoints")[-1]
    assert 8 <= saved < STEPS
    second = cluster.start(*command, SLURM_RESTART_COUNT="1")
    wait_for(lambda: whole_steps(workdir / "checkpoints")[-1] > saved, "a checkpoint")
    cluster.kill(second)
    second.communicate(timeout=60)
    assert last_step(workdir) < STEPS
    third = cluster.start(*command, SLURM_RESTART_COUNT="2")
    out, _ = third.communicate(timeout=200)
    assert (third.returncode, cluster.requeued) == (0, ["requeue 7"]), out
    assert "resuming after step" in out
    assert_equal_runs(workdir, unbroken)


def test_sky_loses_a_machine(arguments, unbroken: Path, tmp_path: Path) -> None:
    workdir = tmp_path / "it's a run"
    command = shlex.join(["python", "-m", "tlc_jax.train", *arguments(workdir)])
    script = yaml.safe_load((LAUNCH / "sky.yaml").read_text())["run"]
    environment = {"HOME": str(tmp_path), "COMMAND": command, "PATH": search_path(tmp_path)}

    def machine() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", script], cwd=ROOT, env={**os.environ, **environment}, start_new_session=True
        )

    first = machine()
    wait_for_step(workdir, 16)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(timeout=60)
    assert last_step(workdir) < STEPS
    assert machine().wait(timeout=200) == 0
    assert_equal_runs(workdir, unbroken)


def test_a_tpu_vm_is_taken_away(arguments, unbroken: Path, tmp_path: Path) -> None:
    Bucket().start()
    cloud, workdir = Cloud(tmp_path / "cloud", look_every=0.2), "gs://bucket/launched"
    cloud.plan(waits=1, taken=r"step (2[4-9]|[3-5]\d) ")
    command = ["python", "-m", "tlc_jax.train", *arguments(workdir)]
    ended = cloud.run("tpu_vm.sh", "watch", "--", *command)
    log = (cloud.folder / "tlc.log").read_text()
    assert ended.returncode == 0, ended.stderr + log
    assert "tlc is SUSPENDED: it is deleted and created again" in ended.stderr
    assert "resuming after step" in log
    assert cloud.left() == set()
    assert_equal_runs(parse_path(workdir), unbroken)
