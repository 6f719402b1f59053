"""What the documents name is there: each row of docs/faults.md its test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FAULTS = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
# `F` is `tests/runs/test_faults.py`; the other files of a list have no "is"
LETTERS = dict(re.findall(r"`([A-Z])`(?: is)?\s+`(tests/\w+/\w+\.py)`", FAULTS))
ROWS = [line.split("|")[1:4] for line in FAULTS.splitlines() if line.startswith("| ") and "---" not in line]
ROWS = [row for row in ROWS if row[2].strip() != "test"]


def names_in(file: str) -> str:
    return " ".join(re.findall(r"def (test_\w+)", (ROOT / file).read_text(encoding="utf-8")))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:60])
def test_each_fault_names_a_test_that_is_there(row: list[str]) -> None:
    cell = row[2].replace("\\|", " ")
    if "by hand" in cell or "script" in cell:
        return
    pieces = [piece.strip() for piece in re.findall(r"`([^`]+)`", cell)]
    file, found = "", 0
    for piece in pieces:
        letter, _, fragment = piece.partition(" ")
        if letter in LETTERS:
            file, piece = LETTERS[letter], fragment
        if piece.startswith("tests/"):
            file, piece = piece, ""
        assert (ROOT / file).is_file(), f"{cell}: there is no {file}"
        assert piece in names_in(file), f"{cell}: {file} has no test {piece}"
        found += 1
    assert found, f"{row[0]}: no test is named"
