"""The examples of docs/extending.md are run: each section's files, its line in a list, and its check."""

from __future__ import annotations

import importlib
import re
import sys
import tarfile
import types
from pathlib import Path

import pytest

from tests.project.documents import ROOT

SECTIONS = {
    section.partition("\n")[0]: section
    for section in re.split(r"^## ", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), flags=re.M)
    if "```python" in section
}
LINE = re.compile(r"`(\w+)` in `tlc_jax/([\w/]+)\.py`\s+gets\s+`([^`]+)`")


def add_line(module: types.ModuleType, name: str, line: str, names: dict, patch: pytest.MonkeyPatch) -> None:
    """Adds to the tuple or dict `name` of a module what `line` says, while `patch` holds."""
    entries = getattr(module, name)
    if isinstance(entries, dict):
        added = eval(f"{{{line}}}" if ":" in line else f"{{{line}.name: {line}}}", names)
        patch.setattr(module, name, {**entries, **added})
    else:
        patch.setattr(module, name, (*entries, eval(line, names)))


@pytest.mark.slow
@pytest.mark.parametrize("title", SECTIONS)
def test_an_example(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = types.ModuleType(f"example_{re.sub('[^a-z]', '_', title.lower())}")
    monkeypatch.setitem(sys.modules, example.__name__, example)
    names = vars(example)
    names["folder"] = tmp_path  # for files that a check needs
    if "artifact)" in SECTIONS[title]:
        with tarfile.open(ROOT / "tests" / "golden" / "d21cde9" / "artifacts.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        names["artifact"] = tmp_path / "artifacts" / "encoder-rows"
    pieces = re.split(r"```python\n(.*?)```\n", SECTIONS[title], flags=re.S)
    for number, piece in enumerate(pieces):
        if number % 2:
            exec(compile(piece, f"extending.md: {title}", "exec", dont_inherit=True), names)
        else:
            for name, path, line in LINE.findall(piece):
                module = path.replace("/", ".").removesuffix(".__init__")
                add_line(importlib.import_module(f"tlc_jax.{module}"), name, line, names, monkeypatch)


def test_each_extension_point_has_a_section() -> None:
    expected = {"Task kind", "Labelled data set", "Public data set", "Metric", "Model family"}
    expected |= {"Compression step", "Compressed tensor", "Report", "Source", "Exporter", "Check"}
    assert expected <= SECTIONS.keys()
