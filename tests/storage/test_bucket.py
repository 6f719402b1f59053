"""Run directories in a bucket: the same runs as on a disk, whatever the store answers on the way."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tensorstore
from orbax.checkpoint._src.serialization import tensorstore_utils

from tests import builders
from tests.bucket import Bucket
from tests.runs.test_checkpoint import restored, save
from tlc_jax import doctor, evaluate, train
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, SaveFailed, UserError
from tlc_jax.runs import stored
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.storage import lock, paths
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.run_directory import LOCK

ROOT = "gs://bucket"


@pytest.fixture(scope="module")
def served() -> Bucket:
    served = Bucket()
    served.start()
    return served


@pytest.fixture
def bucket(served: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    from gcsfs import retry  # reads what `start` has set

    # clients wait a second and more before they try again: here, a hundredth of that
    sooner = types.SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 100))
    monkeypatch.setattr(retry, "asyncio", sooner)
    retries = {"gcs_request_retries": {"initial_delay": "10ms", "max_delay": "320ms"}}
    for name in ("_BASE_TS_CONTEXT", "_DEFAULT_OCDBT_TS_CONTEXT"):
        monkeypatch.setattr(tensorstore_utils, name, getattr(tensorstore_utils, name) | retries)
    opened = functools.partial(tensorstore.KvStore.open, context=tensorstore.Context(retries))
    monkeypatch.setattr(stored, "ts", types.SimpleNamespace(KvStore=types.SimpleNamespace(open=opened)))
    yield served
    served.fail_every = served.denied = None
    served.failed = 0


def names(folder: AnyPath) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_run_in_a_bucket_is_the_run_on_a_disk(
    bucket: Bucket,
    finished: Path,
    command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Interrupted, then gone on with by a machine that has no cache, with requests that fail."""
    workdir, bucket.fail_every = f"{ROOT}/run", 25
    looks = itertools.count(1)
    monkeypatch.setattr(stopping, "requested", lambda: next(looks) > 7)  # step 6 asks twice
    with pytest.raises(Interrupted, match="after step 7, saved"):
        train.main(command(workdir))
    monkeypatch.setattr(stopping, "requested", lambda: False)
    elsewhere = ["--data.dir", str(tmp_path / "gone"), "--data.cache-dir", str(tmp_path / "cache")]
    with pytest.raises(UserError, match="data.dir is .* but the run has"):
        train.main([*command(workdir), *elsewhere])
    train.main(["--workdir", workdir, *elsewhere[2:]])
    assert "resuming after step 7" in capsys.readouterr().out
    assert bucket.failed > 10
    builders.assert_equal_runs(finished, parse_path(workdir))
    assert names(parse_path(workdir)) == names(finished) - {LOCK}, "the lease is given back"
    assert whole_steps(parse_path(workdir) / "checkpoints") == [10, 12]
    capsys.readouterr()
    evaluate.main(["--checkpoint", workdir, "--json"])
    remote = json.loads(capsys.readouterr().out)
    evaluate.main(["--checkpoint", str(finished), "--json"])
    assert {**json.loads(capsys.readouterr().out), "checkpoint": workdir} == remote
    train.main(command(tmp_path / "next", "--init-from", workdir, "--budget.steps", "1"))
    assert f"parameters from {workdir}, step 12" in capsys.readouterr().out


@pytest.mark.slow
def test_a_save_that_the_store_refuses(bucket: Bucket, command, capsys: pytest.CaptureFixture[str]) -> None:
    workdir, bucket.denied = f"{ROOT}/refused", "checkpoints/5"
    train.main(command(workdir, "--budget.steps", "6"))
    shown = capsys.readouterr().out
    assert "saving step 5 to gs://bucket/refused/checkpoints failed" in shown
    assert "training continues" in shown
    assert whole_steps(parse_path(workdir) / "checkpoints") == [6]
    workdir, bucket.denied = f"{ROOT}/refused_at_last", "checkpoints/6"
    with pytest.raises(SaveFailed, match=r"saving step 6 to .* the last whole checkpoint is of step 5"):
        train.main(command(workdir, "--budget.steps", "6"))
    bucket.denied = None
    train.main(command(workdir, "--budget.steps", "6"))
    assert "resuming after step 5" in capsys.readouterr().out
    assert whole_steps(parse_path(workdir) / "checkpoints") == [5, 6]


_SLOW = [pytest.param(left, marks=pytest.mark.slow) for left in ("half removed", "temporary", "flipped")]


@pytest.mark.slow
@pytest.mark.parametrize("left", ["unsealed", *_SLOW])
def test_leftovers_of_a_killed_process(bucket: Bucket, left: str) -> None:
    folder = parse_path(f"{ROOT}/{left.replace(' ', '_')}")
    save(folder, 3, 6, 9)
    newest = folder / "9"
    if left == "temporary":
        for name in paths.files(newest):
            paths.copy_file(newest / name, folder / "12.orbax-checkpoint-tmp" / name)
    elif left == "flipped":
        (newest / "meta" / "metadata").write_text('{"training_seconds": 5.5}')
    else:
        if left == "half removed":
            paths.copy_file(newest / "manifest.json", newest / "retired.json")
            paths.remove_folder(newest / "params")
        (newest / "manifest.json").unlink()
    step, refused = restored(folder)
    assert step == (9 if left == "temporary" else 6)
    assert len(refused) == (left == "flipped")
    assert (
        names(folder)
        == {"3", "6", "begun"}
        | {
            "temporary": {"9"},
            "half removed": set(),
            "unsealed": {"damaged"},
            "flipped": {"damaged"},
        }[left]
    )


HOLD = """
import sys, time
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import parse_path
with locked(parse_path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1000)
"""


@pytest.mark.slow
def test_two_jobs_in_one_run_directory(bucket: Bucket, command) -> None:
    workdir = f"{ROOT}/two"
    hold = [sys.executable, "-c", HOLD, workdir]
    with subprocess.Popen(hold, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            in_use = rf"two is in use by process {process.pid} on .* expires at 20"
            with pytest.raises(UserError, match=in_use):
                train.main(command(workdir))
        finally:
            process.kill()
    with locked(parse_path(workdir)):  # its holder was of this machine, and is dead
        assert f"process {os.getpid()} " in (parse_path(workdir) / LOCK).read_text()
    assert not (parse_path(workdir) / LOCK).exists()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[AnyPath, float], None]:
    """Writes the lease of a process on another machine, for so many seconds from now on."""
    monkeypatch.setattr(lock, "_LOOK", 0.05)

    def write(folder: AnyPath, seconds: float) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(lock, "LEASE", seconds)
            patch.setattr(lock, "_machine", lambda: "elsewhere")
            (folder / LOCK).write_text(lock._lease_text("process 1 on elsewhere since yesterday"))

    return write


def test_a_lease_of_another_machine_runs_out(
    bucket: Bucket, elsewhere: Callable[[AnyPath, float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its machine may have been taken away: what is started next waits for it."""
    folder = parse_path(f"{ROOT}/lease")
    for seconds in (-1, 0.5):
        elsewhere(folder, seconds)
        with locked(folder):
            assert platform.node() in (folder / LOCK).read_text()
    waiting = "lease is in use by process 1 on elsewhere since yesterday: waiting"
    assert capsys.readouterr().err.count(waiting) == 1


def test_a_lease_of_another_machine_that_is_alive(
    bucket: Bucket, elsewhere: Callable[[AnyPath, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It renews its lease; one that is not soon over (a wrong clock) is not waited for."""
    folder, looks = parse_path(f"{ROOT}/alive"), itertools.count(1)
    read = lock._read

    def renewed(path: AnyPath) -> object:
        if next(looks) == 3:
            elsewhere(folder, 101)
        return read(path)

    elsewhere(folder, 100)
    monkeypatch.setattr(lock, "_read", renewed)
    with pytest.raises(UserError, match="in use by process 1 on elsewhere since yesterday"), locked(folder):
        pass
    assert next(looks) == 4
    elsewhere(folder, 10_000)
    with pytest.raises(UserError, match="in use by process 1"), locked(folder):
        pass
    elsewhere(folder, 100)
    monkeypatch.setattr(stopping, "_requested", True)
    with pytest.raises(Interrupted), locked(folder):
        pass


@pytest.mark.slow
def test_who_lost_a_lease_ends_unsaved(bucket: Bucket) -> None:
    """A machine that slept longer than its lease must not write into the run of who took over."""
    program = HOLD.replace("with locked", "from tlc_jax.storage import lock\nlock.RENEWED = 0.2\nwith locked")
    folder = parse_path(f"{ROOT}/lost")
    hold = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(hold, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        (folder / LOCK).write_text(lock._lease_text("process 1 on elsewhere since today"))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    taken = "the lease of gs://bucket/lost was taken by process 1 on elsewhere since today"
    assert f"{taken}: ended without saving" in said


def test_a_bucket_that_is_not_there(bucket: Bucket, command) -> None:
    with pytest.raises(UserError, match=r"gs://nobody/run cannot be written .*check that the bucket exists"):
        train.main(command("gs://nobody/run"))
    for text in ("s3://x/y", "gs:/x/y", "GS://x/y", "gs:x", "gs://"):
        with pytest.raises(UserError, match=f"{text} is neither a local path nor gs://BUCKET/FOLDER"):
            train.main(command(text))


def test_doctor_writes_to_a_bucket_and_leaves_nothing(
    bucket: Bucket, command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bucket.names()
    doctor.main(command(f"{ROOT}/new"))
    assert "the bucket of gs://bucket/new can be written" in capsys.readouterr().out
    assert bucket.names() == before
    bucket.denied = "denied"
    for workdir in (f"{ROOT}/denied", "gs://nobody/run"):
        with pytest.raises(SystemExit) as ended:
            doctor.main(command(workdir))
        assert ended.value.code == 1
        shown = capsys.readouterr().out
        assert f"FAILED  workdir   nothing can be written to {workdir} (" in shown
        assert "gcloud auth application-default login" in shown


def test_a_store_that_does_not_answer(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(where: AnyPath) -> bool:
        raise RuntimeError("Cannot connect\nto host")

    monkeypatch.setattr(type(parse_path(ROOT)), "exists", unreachable)
    with pytest.raises(UserError, match=r"gs://bucket/run cannot be reached \(Cannot connect to host\)"):
        parse_path(f"{ROOT}/run")


@pytest.mark.slow
def test_saves_go_on_where_the_store_fails_often(bucket: Bucket) -> None:
    bucket.fail_every = 5
    folder = parse_path(f"{ROOT}/often")
    save(folder, 3, 6, keep=2)
    assert restored(folder) == (6, [])
    assert bucket.failed > 5
