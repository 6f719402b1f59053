"""Trackers get the lines of metrics.jsonl, each once; event files of TensorBoard hold the same numbers."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from tests.project.documents import ROOT, blocks
from tests.training.event_files import events, scalars
from tlc_jax import train
from tlc_jax.config import Config
from tlc_jax.config.saved import digest
from tlc_jax.core.errors import UserError
from tlc_jax.training.metrics import MetricsWriter, read_metrics
from tlc_jax.training.tensorboard import TensorBoard, check_tensorboard
from tlc_jax.training.trackers import Tracker

LOSS, HELD_OUT = "train/loss", "eval/held_out/loss"


def write(workdir: Path, steps: list[int], restored: int = 0, *trackers: Tracker) -> list[str]:
    """Lines of training and, at tens of steps, of an evaluation; returns the warnings."""
    warnings: list[str] = []
    writer = MetricsWriter(workdir / "metrics.jsonl", restored, warnings.append, trackers=trackers)
    for step in steps:
        times = {"training_seconds": step / 7, "total_seconds": 10.0 + step / 3}
        writer.write(step, times, {LOSS: 5.0 / (step + 1), "tokens": 100 * step})
        if step % 10 == 0:
            writer.write(step, times, {HELD_OUT: float("nan") if step == 0 else 1.5, "marks": ["1/2"]})
    writer.close()
    return warnings


def event_file(workdir: Path) -> Path:
    (path,) = (workdir / "tensorboard").iterdir()
    return path


def numbers(workdir: Path) -> list[tuple[int, str, float]]:
    """Those of metrics.jsonl in float32, of two lines of one step the first."""
    values: dict[tuple[int, str], float] = {}
    for line in read_metrics(workdir / "metrics.jsonl"):
        for name, value in line.items():
            if name not in ("step", "marks"):
                values.setdefault((line["step"], name), float(np.float32(value)))
    return [(step, name, value) for (step, name), value in values.items()]


def assert_same_numbers(workdir: Path) -> None:
    read = [(each.step, each.name, each.value) for each in scalars(event_file(workdir))]
    assert len({each[:2] for each in read}) == len(read), "no step of a name is repeated"
    np.testing.assert_equal(read, numbers(workdir))


def test_event_files_hold_the_lines_and_no_step_twice(tmp_path: Path) -> None:
    assert write(tmp_path, [0, 5, 10, 15, 20], 0, TensorBoard()) == []
    assert_same_numbers(tmp_path)
    assert len(scalars(event_file(tmp_path))) == 5 * 4 + 3
    times = {each.step: each.wall_time for each in scalars(event_file(tmp_path))}
    assert times[20] - times[5] == pytest.approx(5.0, abs=0.01)
    assert abs(times[0] - 10 - time.time()) < 60


def test_a_resumed_run_repeats_nothing(tmp_path: Path) -> None:
    write(tmp_path, [0, 5, 10, 15, 20], 0, TensorBoard())
    write(tmp_path, [15, 20, 25], 10, TensorBoard())
    assert_same_numbers(tmp_path)
    assert sorted({each.step for each in scalars(event_file(tmp_path))}) == [0, 5, 10, 15, 20, 25]
    version, start, *_ = events(event_file(tmp_path))
    assert version[3] == [b"brain.Event:2"]
    assert start[7] == [b"\x08\x01"], "a session starts: what was read of the older file is void"


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    other = tmp_path / "tensorboard" / "events.out.tfevents.1700000000.host"
    other.write_bytes(b"of another program")
    write(tmp_path, [0], 0, TensorBoard())
    write(tmp_path, [5], 0, TensorBoard())
    assert other.read_bytes() == b"of another program"
    assert len([*other.parent.iterdir()]) == 2


@pytest.mark.interop
def test_tensorboard_reads_them(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra `interop`"
    )
    write(tmp_path, [0, 5, 10, 15, 20], 0, TensorBoard())
    read = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [each.step for each in read.Scalars(LOSS)] == [0, 5, 10, 15, 20]
    write(tmp_path, [15, 20, 25], 10, TensorBoard())
    again = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in (LOSS, HELD_OUT, "tokens"):
        expected = [(step, value) for step, each, value in numbers(tmp_path) if each == name]
        np.testing.assert_equal([(each.step, each.value) for each in again.Scalars(name)], expected)


class Broken(Tracker):
    def add(self, line: dict[str, Any]) -> None:
        line.clear()
        if not line:
            raise ConnectionError("no route to the tracker")


class Recorded(Tracker):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self, workdir: Any, lines: Any) -> None:
        self.calls.append([line["step"] for line in lines])

    def add(self, line: dict[str, Any]) -> None:
        self.calls.append(line["step"])

    def close(self) -> None:
        self.calls.append("closed")


def test_a_tracker_that_fails_stops_neither_training_nor_others(tmp_path: Path) -> None:
    other = Recorded()
    warnings = write(tmp_path, [5, 15, 25], 0, Broken(), other)
    assert len(warnings) == 1
    assert warnings[0].startswith("Broken failed (no route to the tracker)")
    assert [line[LOSS] for line in read_metrics(tmp_path / "metrics.jsonl")] == [5 / 6, 5 / 16, 5 / 26]
    assert other.calls == [[], 5, 15, 25, "closed"]


def test_a_tracker_of_a_resumed_run_learns_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, [5, 15, 25])
    tracker = Recorded()
    write(tmp_path, [25, 35], 15, tracker)
    assert tracker.calls == [[5, 15], 25, 35, "closed"]


def test_without_the_extra_one_sentence_says_so(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=re.escape("pip install 'tlc-jax[tensorboard]'")):
        train.main(command(tmp_path / "run", "--tensorboard"))
    assert not (tmp_path / "run").exists()
    check_tensorboard(Config(), tmp_path)  # it is off


def test_a_bucket_is_refused() -> None:
    with pytest.raises(UserError, match="--no-tensorboard"):
        check_tensorboard(Config(tensorboard=True), epath.Path("gs://bucket/run"))


def test_it_is_no_part_of_the_identity_of_a_run(finished: Path) -> None:
    stored = json.loads((finished / "config.json").read_text())
    older = {name: value for name, value in stored.items() if name != "tensorboard"}
    assert stored["tensorboard"] is False
    assert digest(older) == digest(stored) == digest({**stored, "tensorboard": True})


def test_a_finished_run_gets_its_event_file_when_it_is_resumed(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    before = (run / "metrics.jsonl").read_bytes()
    train.main(["--workdir", str(run), "--tensorboard"])
    assert (run / "metrics.jsonl").read_bytes() == before
    assert_same_numbers(run)


@pytest.mark.slow
def test_the_hook_of_the_page_tracks_a_run(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [each for each in blocks(ROOT / "docs" / "usage" / "trackers.md") if each.language == "python"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["track.py", *command("run", "--budget.steps", "4", "--tensorboard")])
    names: dict[str, Any] = {}
    exec(compile(block.text, "trackers.md", "exec"), names)
    table = [line.split(",") for line in (tmp_path / "losses.csv").read_text().splitlines()]
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    expected = [["run", str(line["step"]), str(line[LOSS])] for line in lines if LOSS in line]
    assert table == expected
    assert table
    assert_same_numbers(tmp_path / "run")


class Slow(Tracker):
    def add(self, line: dict[str, Any]) -> None:
        time.sleep(0.3)


@pytest.mark.slow
def test_a_slow_tracker_costs_no_training_seconds(command: Any, tmp_path: Path) -> None:
    train.main(command(tmp_path / "run", "--log-every", "1"), trackers=[Slow()])
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if LOSS in line]
    spent, trained = (lines[-1][name] - lines[0][name] for name in ("total_seconds", "training_seconds"))
    assert len(lines) == 12
    assert spent - trained > 11 * 0.3
