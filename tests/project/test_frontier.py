"""The page of accuracies by bytes of what trained_methods.py has measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.project.benchmark_scripts import load_benchmark

RESULT = {
    "command": "python benchmarks/trained_methods.py RUN",
    "commit": "abc1234",
    "date": "2026-11-27",
    "machine": "2 cores",
    "device": "1 x cpu",
    "examples": 872,
    "dense": [793 / 872],
    "rows": [
        {"method": "rounds: pruned-30", "accuracy": [0.9]},
        {"method": "3 bits", "accuracy": [776 / 872], "file_bytes": [10e6], "float32_bytes": 80e6},
        {"method": "4 bits", "accuracy": [0.9], "file_bytes": [12e6], "float32_bytes": 90e6},
    ],
}


@pytest.mark.slow
def test_every_file_has_its_line_among_the_published_with_wilsons_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = load_benchmark("frontier", monkeypatch)
    (tmp_path / "minilm.json").write_text(json.dumps(RESULT), encoding="utf-8")
    (tmp_path / "minilm.notes.md").write_text("By hand.\n", encoding="utf-8")
    arguments = ["--sst2", str(tmp_path / "minilm.json"), "--output", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["benchmarks/frontier.py", *arguments])
    frontier.main()
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    # p = 776 / 872, z = 1.96: centre (p + z2 / 2n) / (1 + z2 / n) = 0.8882, half 0.0208
    assert "|  | 10 | **minilm: 3 bits** | 89.0 [86.7, 90.9] | development | file | 1 run |" in page
    assert "|  | 90 | **minilm: uncompressed** | 90.9 [88.9, 92.7] | development | float32 | 1 run |" in page
    assert "BiT, binary activations" in page
    assert "pruned-30" not in page, "a round is no file"
    assert page.endswith("By hand.\n")
    assert (tmp_path / "page.png").stat().st_size > 10_000


def test_an_interval_is_over_runs_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    frontier = load_benchmark("frontier", monkeypatch)
    low, high = frontier.ends([0.89, 0.90, 0.91], 872)
    assert (low, high) == pytest.approx((90 - 4.302653 / 3**0.5, 90 + 4.302653 / 3**0.5), abs=1e-4)
