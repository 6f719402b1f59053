"""Metrics lines: no gap, no repeat, nothing torn; sums that survive a restart."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import pytest

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
