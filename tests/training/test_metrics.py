"""Metrics lines: no gap, no repeat, nothing torn; sums that survive a restart."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import pytest

from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.training import metrics, metrics_log
from tlc_jax.training.metrics import Meter, MetricsWriter, read_metrics

TIMES = {"training_seconds": 1.23456, "total_seconds": 2.0}


def write(path: Path, steps: list[int], restored: int = 0) -> None:
    writer = MetricsWriter(path, restored)
    for step in steps:
        writer.write(step, TIMES, {"train/loss": 1.0 / step if step else 0.0})
    writer.close()


def test_resuming_leaves_no_gap_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, [0, 10, 20, 30, 40])
    write(path, [30, 40, 50], restored=20)
    assert [line["step"] for line in read_metrics(path)] == [0, 10, 20, 30, 40, 50]
    assert read_metrics(path)[1] == {
        "step": 10,
        "training_seconds": 1.235,
        "total_seconds": 2.0,
        "train/loss": 0.1,
    }


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, [0, 10, 20])
    text = path.read_text()
    for cut in range(1, 30):
        path.write_text(text[:-cut])
        assert [line["step"] for line in read_metrics(path)] == [0, 10]
    write(path, [20, 30], restored=20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 10, 20, 30]


def test_every_line_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path, 0)
    writer.write(1, TIMES, {})
    assert len(read_metrics(path)) == 1
    writer.close()


def test_the_meter_sums_and_can_be_saved() -> None:
    def step(value: float) -> dict:
        return {"loss": jnp.float32(value), "weight": jnp.float32(2), "gradient_norm": jnp.float32(value)}

    meter = Meter()
    for value in (1.5, 2.25):
        meter.add(step(value))
    saved = meter.peek()
    assert saved == {"loss": 3.75, "weight": 4.0, "gradient_norm": 2.25}, "sums, but the last norm"
    resumed = Meter(saved)
    for one in (meter, resumed):
        one.add(step(0.1))
    assert meter.peek() == resumed.peek()
    meter.clear()
    assert meter.peek() == {}


@pytest.mark.parametrize("content", ["", "{"])
def test_an_empty_file_has_no_lines(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.jsonl").write_text(content)
    assert read_metrics(tmp_path / "m.jsonl") == []
    assert read_metrics(tmp_path / "none.jsonl") == []


# --- bad days of the disk ----------------------------------------------------------------------------


class Disk:
    """In place of the system's `write`: of `room` bytes, and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.room = 10**9
        self._write: Callable[[int, bytes], int] = os.write
        monkeypatch.setattr(metrics_log.os, "write", self)

    def __call__(self, file: int, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(file, content[: self.room])
        self.room -= written
        return written


def test_lines_that_do_not_fit_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, the torn one whole; reported once when it begins and once when it ends."""
    path, warnings, disk = tmp_path / "metrics.jsonl", list[str](), Disk(monkeypatch)
    writer = MetricsWriter(path, 0, warnings.append)
    writer.write(0, TIMES, {})
    disk.room = 25  # in the middle of a line
    for step in (10, 20, 30):
        writer.write(step, TIMES, {})
    assert [line["step"] for line in read_metrics(path)] == [0]
    assert warnings == [
        f"{path} cannot be written (No space left on device): its lines are kept in memory until it can; "
        "training continues"
    ]
    with pytest.raises(OSError, match="No space left on device: .*metrics.jsonl"):
        writer.flush()
    with pytest.raises(SaveFailed, match="metrics.jsonl could not be written"):
        writer.settle()
    disk.room = 10**9
    writer.write(40, TIMES, {})
    assert [line["step"] for line in read_metrics(path)] == [0, 10, 20, 30, 40]
    assert warnings[1:] == [f"{path} is written again, no line is missing"]
    disk.room = 0
    writer.write(50, TIMES, {})
    writer.close()
    assert "1 lines of" in warnings[-1], "what is lost in the end is reported"


@pytest.mark.parametrize("hand", ["removed", "another file", "emptied", "a link"])
def test_a_file_that_another_hand_has_changed(tmp_path: Path, hand: str) -> None:
    path, other = tmp_path / "metrics.jsonl", tmp_path / "other"
    writer = MetricsWriter(path, 0)
    writer.write(0, TIMES, {})
    other.write_text("mine")
    if hand == "emptied":
        os.truncate(path, 0)
    else:
        path.unlink()
    if hand == "another file":
        path.write_text("{}" * 100)
    if hand == "a link":
        path.symlink_to(other)
    writer.write(10, TIMES, {})
    writer.flush()
    assert [line["step"] for line in read_metrics(path)] == [0, 10]
    assert other.read_text() == "mine"


def test_nothing_is_written_into_another_folder_of_the_same_name(tmp_path: Path) -> None:
    folder, warnings = tmp_path / "run", list[str]()
    folder.mkdir()
    writer = MetricsWriter(folder / "metrics.jsonl", 0, warnings.append)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    writer.write(10, TIMES, {})
    writer.close()
    assert not list(folder.iterdir())
    assert "its folder was replaced" in warnings[0]


# --- files of strangers ------------------------------------------------------------------------------

WHOLE = {"step": 3, "training_seconds": 1.0, "total_seconds": 2.0}


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({**WHOLE, "step": "3"}),
        json.dumps({**WHOLE, "step": -1}),
        json.dumps({**WHOLE, "step": 1.5}),
        json.dumps({**WHOLE, "step": 10**30}),
        json.dumps({"step": 3}),
        json.dumps({**WHOLE, "eval/held_out/loss": [1]}),
        json.dumps({**WHOLE, "train/loss": "nan"}),
        json.dumps({**WHOLE, "marks": "1/4"}),
        "[" * 100_000,
        "\udcff",
        "3",
        "1" * 10_000,
    ],
    ids=lambda content: content[:60],
)
def test_what_is_no_line_of_metrics_is_refused_by_its_number(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(f"{json.dumps(WHOLE)}\n{content}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(
        UserError, match=r"m.jsonl line 2 is not a line of metrics \(.*\): correct or remove it"
    ):
        read_metrics(path)


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    monkeypatch.setattr(metrics, "_LONGEST_LINE", 1000)
    path.write_text(json.dumps(WHOLE) + "\n" + "x" * 5000)
    with pytest.raises(UserError, match="a line of more than 1,000 bytes"):
        read_metrics(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is not a regular file"):
        read_metrics(path)
