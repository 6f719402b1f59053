"""Whole runs on bad days: damage, full disks, two jobs, bad batches, machines that are taken away."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.builders import assert_equal_runs
from tlc_jax import train
from tlc_jax.core.clock import Deadline
from tlc_jax.core.errors import Interrupted, SaveFailed, UserError
from tlc_jax.runs import checkpoint, open_run, saving
from tlc_jax.storage.run_directory import LOCK, write_json
from tlc_jax.tasks.base import HostBatch, RowsOf
from tlc_jax.tasks.mlm import MaskedLanguageModelling
from tlc_jax.training import metrics_log
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.session import Session
from tlc_jax.training.view import View


@pytest.mark.slow
def test_damaged_token_files_are_refused_before_step_one(
    finished: Path, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = shutil.copytree(finished, tmp_path / "w")
    path = workdir / "data" / "train.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"train.bin has \d+ bytes instead of \d+"):
        train.main(command(workdir))
    shutil.rmtree(workdir / "data")  # as the message advises
    with monkeypatch.context() as patch:
        patch.setattr(open_run, "saved_data_identity", lambda folder: "of another text")
        with pytest.raises(UserError, match=r"data is missing, and .* is no longer what"):
            train.main(command(workdir))
    train.main(command(workdir))
    assert (workdir / "data" / "train.bin").read_bytes() == (finished / "data" / "train.bin").read_bytes()


@pytest.mark.slow
def test_what_is_missing_or_damaged_is_named(finished: Path, command, tmp_path: Path) -> None:
    """Each in a copy of a finished run; nothing else changes in it, and the advice helps."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(finished, tmp_path / name))

    def contents(workdir: Path) -> dict[Path, bytes]:
        paths = [path for path in workdir.rglob("*") if path.is_file() and path.name != LOCK]
        return {path: path.read_bytes() for path in paths}

    def refused(workdir: Path, says: str) -> None:
        before = contents(workdir)
        with pytest.raises(UserError, match=says):
            train.main(command(workdir))
        assert contents(workdir) == before

    gone = copy("gone")
    shutil.rmtree(gone / "checkpoints")
    refused(gone, "checkpoints is missing though .* reaches step 12")
    torn = copy("torn")
    with (torn / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    refused(torn, "metrics.jsonl line 7 is not a line of metrics")
    gone = copy("no_metrics")
    (gone / "metrics.jsonl").unlink()
    refused(gone, "metrics.jsonl is missing though there are checkpoints")
    gone = copy("no_config")
    (gone / "config.json").unlink()
    refused(gone, "holds a run without its config.json")
    odd = copy("odd")
    (odd / "config.json").write_text("[]")
    refused(odd, "config.json is not the config of a run")
    environment = copy("environment")
    (environment / "environment.json").write_text("{")
    refused(environment, "environment.json is damaged")
    other = copy("other")
    write_json(other / "config.json", json.loads((other / "config.json").read_text()) | {"seed": 1})
    with pytest.raises(UserError, match="checkpoint of step 12 .* is of another run: remove it"):
        train.main(command(other, "--seed", "1"))


@pytest.mark.slow
def test_data_of_another_run_are_refused(finished: Path, command, tmp_path: Path) -> None:
    """Other rows, or another tokenizer, under a checkpoint that was not trained on them."""
    workdir, other = Path(shutil.copytree(finished, tmp_path / "w")), tmp_path / "other"
    train.main(command(other, "--data.seed", "1", "--budget.steps", "1"))
    shutil.rmtree(workdir / "data")
    shutil.copytree(other / "data", workdir / "data")
    with pytest.raises(UserError, match=r"w/data is not the data of this run: put its own files back"):
        train.main(command(workdir))


KILLED = """
import os, signal, sys
from tlc_jax import train
from tlc_jax.training.metrics_log import MetricsLog

written = MetricsLog.add

def torn(self, line):
    last = '"step": 8' in line
    written(self, line[:30] if last else line)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)

MetricsLog.add = torn
train.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_kill_9_while_writing_metrics(finished: Path, command, tmp_path: Path) -> None:
    """A real process that ends in the middle of a line, between two checkpoints."""
    workdir = tmp_path / "w"
    done = subprocess.run([sys.executable, "-c", KILLED, *command(workdir)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (workdir / "metrics.jsonl").read_text().endswith("\n")
    assert set(checkpoint.whole_steps(workdir / "checkpoints")) <= {5}, "it may not be written yet"
    train.main(command(workdir))
    assert_equal_runs(finished, workdir)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_the_time_since_the_one_before(
    finished: Path, command, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w"))
    shutil.rmtree(workdir / "checkpoints" / "12" / "params")
    shutil.rmtree(workdir / "data")  # as the message for a damaged token file advises
    train.main(command(workdir))
    said = capsys.readouterr().out
    assert re.search(r"checkpoint of step 12 is damaged: .*params/\S+ is missing; it is put aside", said)
    assert re.search(r"resuming after step 10, .* of training are repeated", said)
    assert_equal_runs(finished, workdir)


@pytest.mark.slow
def test_the_last_evaluation_is_made_again(finished: Path, command, tmp_path: Path) -> None:
    """Of a run that is done, and whose last line is torn."""
    workdir = Path(shutil.copytree(finished, tmp_path / "w"))
    text = (workdir / "metrics.jsonl").read_text()
    (workdir / "metrics.jsonl").write_text(text[:-17])
    train.main(command(workdir))
    assert_equal_runs(finished, workdir)


@pytest.mark.slow
def test_two_jobs_in_one_run_directory(command, tmp_path: Path) -> None:
    """The second is refused by the name of the first; the lock dies with its owner."""
    workdir = tmp_path / "w"
    workdir.mkdir()
    program = f"""
import pathlib, time
from tlc_jax.storage.lock import locked
with locked(pathlib.Path({str(workdir)!r})):
    print("held", flush=True)
    time.sleep(1000)
"""
    hold = [sys.executable, "-c", program]
    with subprocess.Popen(hold, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(
            UserError, match=rf"w is in use by process {process.pid} on \S+ since 20.*--workdir"
        ):
            train.main(command(workdir))
        process.kill()
    train.main(command(workdir, "--budget.steps", "1"))


@pytest.mark.slow
def test_one_bad_batch_is_skipped_and_counted(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = MaskedLanguageModelling.train_batch

    def poisoned(self: MaskedLanguageModelling, step: int, rows: RowsOf) -> HostBatch:
        batch = honest(self, step, rows)
        return {**batch, "weights": batch["weights"] * (np.nan if step == 5 else 1)}

    monkeypatch.setattr(MaskedLanguageModelling, "train_batch", poisoned)
    train.main(command(tmp_path / "w"))
    found = [line for line in read_metrics(tmp_path / "w" / "metrics.jsonl") if "train/loss" in line]
    assert [line["train/skipped_steps"] for line in found] == [0, 1, 0]
    assert all(np.isfinite(line["train/loss"]) for line in found)


@pytest.mark.slow
def test_too_many_steps_that_are_not_finite_stop_the_run(command, tmp_path: Path) -> None:
    wild = ["--optimizer.learning-rate", "1e30", "--schedule.warmup", "0", "--max-skipped", "6"]
    with pytest.raises(UserError, match=r"not finite in 6 steps in a row, from the batch of step 2 on"):
        train.main(command(tmp_path / "w", *wild))
    assert checkpoint.whole_steps(tmp_path / "w" / "checkpoints") == [], "5 would be no good to anybody"
    assert all(
        np.isfinite(line.get("train/loss", 0.0)) for line in read_metrics(tmp_path / "w" / "metrics.jsonl")
    )


@pytest.mark.slow
def test_a_run_stops_before_its_machine_is_taken_away(
    finished: Path, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the third look time is nearly over; the same command with more time ends as if it never stopped."""
    looks = iter([False, False, True])
    monkeypatch.setattr(Deadline, "near", lambda self, longest_save: next(looks))
    with pytest.raises(Interrupted, match="stopped before 9 s are over, after step 3, saved; run the same"):
        train.main(command(tmp_path / "w", "--stop-after", "9"))
    monkeypatch.undo()
    train.main(command(tmp_path / "w", "--stop-after", "9000"))
    assert_equal_runs(finished, tmp_path / "w")


def no_room(*steps: int):
    """In place of the check for room: there is none at these steps."""

    def check(folder: Path, step: int, state: object) -> None:
        if step in steps:
            raise SaveFailed(f"no room at step {step}")

    return check


@pytest.mark.slow
def test_a_full_disk_in_the_middle_is_reported_and_survived(
    finished: Path,
    command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(saving, "_check_room", no_room(5))
    train.main(command(tmp_path / "w"))
    assert "warning: no room at step 5; training continues" in capsys.readouterr().out
    assert_equal_runs(finished, tmp_path / "w")


@pytest.mark.slow
def test_a_full_disk_at_the_end_fails_the_run_and_keeps_what_there_is(
    finished: Path, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "_check_room", no_room(12))
    with pytest.raises(SaveFailed, match="no room at step 12"):
        train.main(command(tmp_path / "w"))
    assert checkpoint.whole_steps(tmp_path / "w" / "checkpoints") == [5, 10]
    monkeypatch.undo()
    train.main(command(tmp_path / "w"))
    assert_equal_runs(finished, tmp_path / "w")


@pytest.mark.slow
def test_an_earlier_save_that_failed_does_not_keep_the_last_one_from_trying(
    finished: Path, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save of step 10 fails in the background, and is not looked at before the last one is due."""
    seal = saving.seal

    def full(folder: Path, about: dict) -> dict:
        if folder.name == "10":
            raise OSError(28, "No space left on device")
        return seal(folder, about)

    monkeypatch.setattr(saving, "seal", full)
    monkeypatch.setattr(saving.Checkpoints, "failed", lambda self: False)
    train.main(command(tmp_path / "w"))
    assert checkpoint.whole_steps(tmp_path / "w" / "checkpoints") == [5, 12]
    assert_equal_runs(finished, tmp_path / "w")


# --- whatever else ends training -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), RuntimeError("a fault of ours")], ids=repr
)
def test_whatever_ends_training_what_was_trained_is_saved(
    finished: Path, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """After the line of step 4, before any checkpoint is due; the error is the same one afterwards."""
    logged = View.logged

    def fail(self: View, line: dict) -> None:
        logged(self, line)
        raise error

    monkeypatch.setattr(View, "logged", fail)
    with pytest.raises(type(error)) as raised:
        train.main(command(tmp_path / "w"))
    assert raised.value is error
    assert checkpoint.whole_steps(tmp_path / "w" / "checkpoints") == [4]
    monkeypatch.undo()
    if isinstance(error, RuntimeError):
        train.main(command(tmp_path / "w"))
        assert_equal_runs(finished, tmp_path / "w")


class Stub(Session):
    """A session with only what a last save looks at."""

    def __init__(self, step: int, newest: int | None = None, in_a_row: bool = False):
        self.step, self.state = step, jax.numpy.zeros(3)
        self.saver = types.SimpleNamespace(newest=newest, wait=lambda: None)
        self.agenda = types.SimpleNamespace(skipped=types.SimpleNamespace(in_a_row=in_a_row))
        self.view = types.SimpleNamespace(warned=self.warn)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_what_is_not_worth_saving_or_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Stub, "save", lambda self, last: saved.append(self.step))
    for stub in (Stub(7, newest=7), Stub(7, in_a_row=True), Stub(7)):
        if not stub.agenda.skipped.in_a_row and stub.saver.newest is None:
            stub.state.delete()  # a step that failed has taken it
        stub.rescue(ValueError("x"))
    assert saved == []
    Stub(7, newest=5).rescue(ValueError("x"))
    assert saved == [7]

    def full(self: Stub, last: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Stub, "save", full)
    stub = Stub(7)
    stub.rescue(ValueError("x"))
    assert "step 7 could not be saved ([Errno 28] No space left on device)" in stub.warnings[-1]


@pytest.mark.slow
def test_metrics_on_a_full_disk_are_reported_and_survived(
    finished: Path,
    command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """No line can be written until after step 8; no checkpoint is sealed without its lines."""
    write = os.write

    def full(file: int, content: bytes) -> int:
        if b'"step"' in content and b'"step": 12' not in content:
            raise OSError(28, "No space left on device")
        return write(file, content)

    monkeypatch.setattr(metrics_log.os, "write", full)
    train.main(command(tmp_path / "w"))
    said = capsys.readouterr().out
    assert said.count("metrics.jsonl cannot be written (No space left on device)") == 1
    assert re.search(r"saving step 5 to .*No space left on device: .*metrics.jsonl.*training continues", said)
    assert "metrics.jsonl is written again, no line is missing" in said
    kept = checkpoint.whole_steps(tmp_path / "w" / "checkpoints")
    assert 5 not in kept
    assert kept[-1] == 12
    assert_equal_runs(finished, tmp_path / "w")


@pytest.mark.slow
def test_a_run_directory_that_is_taken_away_is_not_made_again(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir, stepped = tmp_path / "w", View.stepped

    def taken(self: View, step: int, seconds: float) -> None:
        stepped(self, step, seconds)
        if step == 3:
            workdir.rename(tmp_path / "moved")
            workdir.mkdir()

    monkeypatch.setattr(View, "stepped", taken)
    with pytest.raises(SaveFailed, match=r"w was removed or replaced while its run was active"):
        train.main(command(workdir))
    assert not list(workdir.iterdir())
    assert [line["step"] for line in read_metrics(tmp_path / "moved" / "metrics.jsonl")] == [0]
