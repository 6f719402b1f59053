"""The examples of docs/usage/python.md run, in order, on small models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.golden import make_d21cde9 as old
from tests.project.documents import ROOT, blocks


@pytest.mark.slow
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = old.unpacked(tmp_path / "work")
    for name, path in (("classifier", "runs/sst2"), ("translation", "runs/enfr"), ("tables", "my_tables")):
        shutil.copytree(made / name, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(ROOT / "docs" / "usage" / "python.md"):
        if block.language == "python":
            exec(compile(block.text, f"python.md:{block.line}", "exec"), names)
    printed = capsys.readouterr().out
    assert "'eval/" in printed
    assert len(names["model"].predict(["one", "two"])) == 2
    assert (tmp_path / "exported" / "sst2_4" / "model.safetensors").is_file()
