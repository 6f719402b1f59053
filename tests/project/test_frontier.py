"""The page of accuracies by bytes, made of a result and of the published numbers."""

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
    "examples": 872,
    "dense": [0.91, 0.92],
    "rows": [
        {"method": "rounds: pruned-30", "accuracy": [0.9, 0.91]},
        {
            "method": "3 bits",
            "accuracy": [0.9, 0.88],
            "file_bytes": [9_000_000, 11_000_000],
            "float32_bytes": 80_000_000,
        },
        {
            "method": "4 bits",
            "accuracy": [0.9, 0.9],
            "file_bytes": [12_000_000, 12_000_000],
            "float32_bytes": 90_000_000,
        },
    ],
}


@pytest.mark.slow
def test_ours_stand_between_the_published_by_bytes_with_wilsons_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = load_benchmark("frontier", monkeypatch)
    (tmp_path / "result.json").write_text(json.dumps(RESULT), encoding="utf-8")
    (tmp_path / "notes.md").write_text("## Notes\n\nBy hand.\n", encoding="utf-8")
    arguments = ["--sst2", str(tmp_path / "result.json"), "--output", str(tmp_path / "page")]
    monkeypatch.setattr(sys, "argv", ["benchmarks/frontier.py", *arguments])
    frontier.main()
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"
    ][2:]
    assert [float(row[0]) for row in rows] == sorted(float(row[0]) for row in rows)
    by_name = {row[1]: row for row in rows}
    assert by_name["**uncompressed**"][0] == "90"
    # 776 of 872 right: the centre (p + z²/2n) / (1 + z²/n) and its half, by hand
    assert by_name["**3 bits**"] == ["10", "**3 bits**", "89.0 [86.7, 90.9]", "file, development, 2 runs"]
    assert by_name["BiT 1-1-1"][2] == "89.9"
    assert "GOBO 3-4 bits" not in by_name, "it has no number of this task"
    assert not any("pruned-30" in name for name in by_name), "a round is no file"
    assert page.endswith("By hand.\n")
    assert (tmp_path / "page.png").stat().st_size > 10_000
