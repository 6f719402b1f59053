"""What `inspect` shows of an artifact: a screenful by kind of matrix, or every tensor."""

from __future__ import annotations

import io
import re
import tarfile
from collections import defaultdict
from pathlib import Path

import pytest
from rich.console import Console

from tests.golden.make_d21cde9 import FOLDER
from tlc_jax import inspect
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.inference.describe import described, summary

NAMES = ["translation-groups", "encoder-heads", "classifier-rounds"]


@pytest.fixture(params=NAMES)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(FOLDER / "artifacts.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "artifacts" / request.param


def shown(artifact: Path, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(summary(described(str(artifact))))
    return console.export_text().splitlines()


def kind_of(name: str, shape: list[int]) -> str:
    parts = ("*" if part.isdigit() else part for part in name.split("/"))
    return "/".join(parts) if len(shape) > 1 else "vectors (biases, normalization)"


def test_a_screenful_sums_up_what_the_tensors_are(artifact: Path) -> None:
    """A row for the names that differ in the number of the layer only, and what its tensors sum up to."""
    lines, content = shown(artifact, 80), read_artifact(artifact)
    assert len(lines) <= 30
    assert all(len(line) <= 80 for line in lines)
    kinds = defaultdict(list)
    for name, entry in content.manifest["tensors"].items():
        kinds[kind_of(name, entry["shape"])].append(entry)
    rows = {kind: row.removeprefix(kind).split() for kind in kinds for row in lines if row.startswith(kind)}
    assert rows.keys() == kinds.keys()
    for kind, entries in kinds.items():
        shapes = {" x ".join(map(str, entry["shape"])) for entry in entries}
        count, *dimensions, bits, zeros, error = rows[kind]
        assert (int(count), bits) == (len(entries), str(entries[0]["bits"]))
        assert " ".join(dimensions) == (shapes.pop() if len(shapes) == 1 else "several")
        assert zeros == f"{1 - sum(e['nonzeros'] for e in entries) / sum(e['weights'] for e in entries):.1%}"
        assert error == f"{max(entry['relative_error'] for entry in entries):.4f}"
    stored = re.findall(r"^(\d+) tensors: (?:dense|bitmap), ", "\n".join(lines), re.MULTILINE)
    assert sum(map(int, stored)) == len(content.tensors)


def test_all_shows_every_tensor(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect.main([str(artifact), "--all"])
    every = capsys.readouterr().out
    inspect.main([str(artifact)])
    few = capsys.readouterr().out
    names = [name for name in read_artifact(artifact).tensors if "/layers/0/" in name]
    assert names
    assert all(name in every and name not in few for name in names)
    assert "--all shows every tensor" in few
    tensors = read_artifact(artifact).tensors
    rows = [line for line in every.splitlines() if line.partition(" ")[0] in tensors]
    assert len(rows) == len(tensors)
    assert max(map(len, rows)) <= 80, "also where it is not printed to a terminal"


def test_numbers_of_tensors_stand_for_the_lines_above(artifact: Path, capsys: pytest.CaptureFixture) -> None:
    inspect.main([str(artifact), "--all"])
    shown = capsys.readouterr().out
    legend = dict(re.findall(r"^(\d+)  [\d,]+ tensors?: (.*)$", shown, re.MULTILINE))
    for name, entry in read_artifact(artifact).manifest["tensors"].items():
        [numbers] = re.findall(rf"^{re.escape(name)} .* \d\.\d{{4}} ([\d ]+)$", shown, re.MULTILINE)
        stored, *why = (legend[number] for number in numbers.split())
        assert stored.startswith(entry["layout"])
        assert why == ([entry["why"]] if entry.get("why") else [])
