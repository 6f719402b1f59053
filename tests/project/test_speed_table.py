"""The table of all benchmarks, from committed results, beside what was written about them by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "page"),
    [("train_step", "docs/results/train_step.md"), ("translate", "docs/results/translate_small.md")],
)
def test_ratios_are_those_of_the_documents(
    name: str, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import speed_table

    result = (ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8")
    (tmp_path / f"{name}.json").write_text(result, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["speed_table.py", str(tmp_path)])
    speed_table.main()
    lines = (tmp_path / "speed.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert len(rows) == 2 + (4 if name == "train_step" else 6)
    written = (ROOT / page).read_text(encoding="utf-8")
    assert any(f"commit {json.loads(result)['commit']}" in line for line in lines)
    for row in rows[2:]:
        ratio, _, ends = row[4].partition(" ")
        assert f"{ratio} {ends}" in written, row
