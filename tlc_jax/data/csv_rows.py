"""Rows of a .csv: commas between cells, and quotes around those that hold commas, quotes or line ends."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.data.lines import LONGEST_TEXT, read_lines

_OTHER = {";": "semicolons", "\t": "tabs", "|": "bars"}
_CONVERT = (
    "convert it (python -c 'import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, "
    'delimiter="{0}"))\' < FILE > NEW.csv)'
)


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of each row; blank lines are ignored. UserError names the line of a
    row that has more or fewer cells than the first, or whose quotes are wrong."""
    csv.field_size_limit(LONGEST_TEXT)
    reader = csv.reader((f"{line}\n" for line in read_lines(path)), strict=True)
    width, start = 0, 1
    while True:
        stopping.check()
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(_broken(path, start, reader.line_num, str(error))) from None
        if cells is None:
            return
        if not cells:
            continue
        if not width:
            width = len(cells)
            _check_separator(path, start, cells)
        if len(cells) != width:
            raise UserError(
                f"{path} line {start} has {counted(len(cells), 'cell')} between commas, but the first line "
                f"has {width}: put quotes around a text with commas, or add what is missing"
            )
        yield start, cells


def _broken(path: Path, start: int, line: int, error: str) -> str:
    if "field larger" in error or "unexpected end" in error:
        return (
            f"{path} line {start} begins a row with a quote that nothing ends: close it, and double quotes "
            "that belong to a text"
        )
    return f"{path} line {line} is not CSV ({error}): double the quotes that belong to a text"


def _check_separator(path: Path, number: int, cells: list[str]) -> None:
    """UserError if a first line of one cell has another separator than commas in it."""
    if len(cells) == 1 and (sign := re.search(r"[;\t|]", cells[0])):
        raise UserError(
            f"{path} line {number} has {_OTHER[sign[0]]} between the names of columns, not commas: "
            f"{_CONVERT.format(sign[0])}"
        )
