"""Rows of tables (.tsv, .csv, .jsonl, .parquet), each with its number.

In a .tsv a tab always ends a cell and a line end always ends a row: quotes have no meaning. Every row has as
many cells as the first, so that a tab inside a text is noticed; a table with CSV's quotes is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted, printable
from tlc_jax.data.csv_rows import csv_rows
from tlc_jax.data.lines import read_lines
from tlc_jax.data.parquet_rows import columns_of_text, parquet_rows

SUFFIXES = (".tsv", ".csv", ".jsonl", ".parquet")
_NAME = re.compile(
    r"(?P<stem>.+)((?P<kind>\.tsv|\.csv|\.jsonl)(\.gz|\.zst)?|(?P<binary>\.parquet))",
    re.IGNORECASE | re.DOTALL,
)
_CSV = re.compile(r'"(?:[^"]|"")*"')
_FEWEST = 5  # rows that show how a table is written
_FROM_CSV = (
    "convert it (python -c 'import csv, json, sys; [print(json.dumps(row)) for row in "
    'csv.DictReader(sys.stdin, delimiter="{0}")]\' < FILE > NEW.jsonl)'
)
_FROM_ARRAY = (
    "convert it (python -c 'import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]'"
)


def table_stem(name: str) -> str | None:
    """The name of the file of a table without its suffixes, which may be in upper case; None if it is not a
    table."""
    match = _NAME.fullmatch(name)
    return match["stem"] if match else None


def table_kind(path: Path) -> str:
    """One of SUFFIXES; empty if the file is not a table by its name."""
    match = _NAME.fullmatch(path.name)
    return (match["kind"] or match["binary"]).lower() if match else ""


def row_location(path: Path, number: int) -> str:
    """File and line, as messages name it; a .parquet has rows, from 1."""
    return f"{path} {'row' if table_kind(path) == '.parquet' else 'line'} {number}"


def cell_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row of a .tsv or a .csv; of a .parquet the columns of text, below their names."""
    if table_kind(path) == ".csv":
        yield from csv_rows(path)
    elif table_kind(path) == ".parquet":
        names = columns_of_text(path)
        yield 0, names
        for number, row in parquet_rows(path, names):
            yield number, [row[name] or "" for name in names]
    else:
        yield from tsv_rows(path)


def table_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of each row. Blank lines at the end of the file are ignored; UserError if rows follow a
    blank line, since they might be misaligned."""
    blank = None
    for number, line in enumerate(read_lines(path), start=1):
        stopping.check()
        if number == 1 and "\r" in line:
            raise UserError(
                f"{path} line 1 ends with a CR without LF, as on old Macs: convert it (tr '\\r' '\\n' < FILE)"
            )
        if not line.strip() and "\t" not in line:
            blank = blank or number
            continue
        if blank is not None:
            raise UserError(
                f"{path} line {blank} is blank, and rows follow it: remove blank lines (sed -i '/^$/d' FILE)"
            )
        yield number, line


def tsv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row. UserError names a line that has more or fewer cells than the first."""
    width = 0
    for number, line in table_lines(path):
        cells = line.split("\t")
        if not width:
            width = len(cells)
        elif len(cells) != width:
            quotes = "; quotes do not hide tabs and line ends" if '"' in line else ""
            todo = (
                "a text must not contain a tab: replace it with a space"
                if len(cells) > width
                else "add what is missing"
            )
            raise UserError(
                f"{path} line {number} has {counted(len(cells), 'cell')} between tabs, but the first line "
                f"has {width}{quotes}; {todo}"
            )
        yield number, cells


def is_quoted(cell: str) -> bool:
    """Whether a cell may be quoted as in CSV: quotes around it, and each quote inside doubled."""
    return _CSV.fullmatch(cell) is not None


def is_surely_quoted(cell: str) -> bool:
    """Whether a cell must be quoted as in CSV: quotes around it, and doubled quotes inside."""
    return cell == '""' or ('""' in cell[1:-1] and is_quoted(cell))


def is_between_quotes(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def are_quoted(quoted: int, rows: int) -> bool:
    """Whether so many rows are in quotes that a CSV writer must have put them there."""
    return rows >= _FEWEST and 20 * quoted >= 19 * rows


def check_separator(
    path: Path, number: int, cells: list[str], is_header: Callable[[list[str]], bool], into: str = _FROM_CSV
) -> None:
    """UserError if the first line would be a header with another separator than tabs."""
    for sign, name in ((",", "commas"), (";", "semicolons"), ("|", "bars")):
        if len(cells) == 1 and sign in cells[0]:
            names = [cell.strip().strip('"') for cell in cells[0].split(sign)]
            if is_header(names):
                raise UserError(
                    f"{path} line {number} has {name} between the names of columns, not tabs: "
                    f"{into.format(sign)}"
                )


def jsonl_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each row. UserError names a line that is not a JSON object."""
    for number, line in table_lines(path):
        try:
            value = json.loads(line, object_pairs_hook=_without_doubles)
        except RecursionError:
            raise UserError(
                f"{path} line {number} is nested too deeply: write only texts and labels"
            ) from None
        except ValueError as error:
            _check_array(path, number, line)
            raise UserError(
                f"{path} line {number} is not JSON ({printable(error)}): write one object on each line"
            ) from error
        if not isinstance(value, dict):
            if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
                _check_array(path, number, line)
            raise UserError(
                f"{path} line {number} is not a JSON object but {kind_of(value)}: write one object on each "
                'line, such as {"text": "...", "label": "..."}'
            )
        yield number, value


def _check_array(path: Path, number: int, line: str) -> None:
    if number == 1 and line.lstrip().startswith("["):
        raise UserError(
            f"{path} is one JSON array, not an object on each line: {_FROM_ARRAY} < FILE > NEW.jsonl)"
        )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("an object has the same field twice")
    return row


def kind_of(value: Any) -> str:
    """The kind of a JSON value, in words."""
    kinds = {type(None): "null", bool: "true or false", int: "a whole number", float: "a number"}
    return {**kinds, str: "text", list: "a list", dict: "an object"}[type(value)]


def column_name(name: str) -> str:
    """The name of a column as it is compared: without spaces around it, in lower case."""
    return name.strip().casefold()
