"""One table of labelled text, row by row: what it holds, or the line that is not as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.untrusted import printable
from tlc_jax.data import labels, tables
from tlc_jax.data.sources import LONGEST_TEXT

WANTED = "text, label and, for pairs of texts, text_b"
_COLUMNS = ("text", "text_b", "label")
_JSON = "write the table as JSON lines (pandas: to_json('train.jsonl', orient='records', lines=True))"


@dataclass(frozen=True)
class Table:
    """A table as it was read. `labels` is None where it has none; `lines` are those that its rows are on,
    `unused` the columns that nothing is made of."""

    path: Path
    texts: list[tuple[str, ...]]
    labels: list[str] | None
    lines: list[int]
    unused: tuple[str, ...]


def read_table(path: Path, known: Sequence[str] = ()) -> Table:
    """A table's texts and labels; UserError names the line that is not as it should be. A model's `known`
    classes are labels, however they read."""
    names = frozenset(known)
    texts: list[tuple[str, ...]] = []
    values: list[Any] = []
    lines: list[int] = []
    fields: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    for line, row in _objects(path):
        where = f"{path} line {line}"
        if not lines:
            fields = _fields(row, path, line)
            unused = tuple(name for name in row if name not in _COLUMNS and name)
        if missing := [field for field in fields if field not in row]:
            raise UserError(f"{where} has no {missing[0]}, and line {lines[0]} has: rows must be alike")
        if more := [field for field in _COLUMNS if field in row and field not in fields]:
            raise UserError(f"{where} has {more[0]}, and line {lines[0]} has none: rows must be alike")
        texts.append(tuple(_text(row[field], field, where) for field in fields if field != "label"))
        values.append(row.get("label"))
        lines.append(line)
    if not lines:
        raise UserError(f"{path} has no rows: fill it or remove it")
    return Table(path, texts, _labels(values, lines, path, names), lines, unused)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by the names of columns) of each row."""
    if tables.is_jsonl(path):
        for line, value in tables.jsonl_objects(path):
            yield line, _by_column(list(value), list(value.values()), f"{path} line {line}")
        return
    header: list[str] = []
    columns: list[str] = []
    for line, cells in tables.tsv_rows(path):
        if not header:
            header, columns = cells, [tables.column_name(cell) for cell in cells]
            if any(tables.is_quoted(cell) for cell in cells):
                raise UserError(
                    f"{path} line {line} names columns in quotes, which are not interpreted: {_JSON}"
                )
            _fields(_by_column(cells, cells, f"{path} line {line}"), path, line)
        elif cells == header:
            raise UserError(f"{path} line {line} repeats the names of the columns: remove it")
        elif any('"' in cell and tables.is_surely_quoted(cell) for cell in cells):
            raise UserError(f"{path} line {line} has cells in quotes, which are not interpreted: {_JSON}")
        else:
            yield line, dict(zip(columns, cells, strict=True))


def _by_column(names: list[str], values: list[Any], where: str) -> dict[str, Any]:
    columns = [tables.column_name(name) for name in names]
    found = dict(zip(columns, values, strict=True))
    if len(found) < len(columns):
        twice = next((name for name, times in Counter(columns).items() if name and times > 1), None)
        if twice is not None:
            raise UserError(f"{where} has two columns called '{printable(twice, 60)}': rename or remove one")
    return found


def _fields(row: dict[str, Any], path: Path, line: int) -> tuple[str, ...]:
    """Those of the wanted columns that there are."""
    if "text" not in row:
        todo = "rename them in every row"
        if not tables.is_jsonl(path):
            todo = (
                "rename them (such as sed -i '1s/sentence/text/' FILE), or, if the line is a row, put their "
                "names above it (sed -i '1i text\\tlabel' FILE)"
            )
        raise UserError(
            f"{path} line {line} has the columns {tables.some(list(row))}; wanted are {WANTED}: {todo}"
        )
    return tuple(field for field in _COLUMNS if field in row)


def _text(value: Any, field: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {field} is {tables.kind_of(value)}, not text: write it in quotes")
    if not value.strip():
        raise UserError(f"{where}: {field} is empty: put a text in or remove the row")
    if len(value) > LONGEST_TEXT:
        raise UserError(
            f"{where}: {field} has {len(value):,} characters, {LONGEST_TEXT:,} are the most: shorten it"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: {field} is not a string of Unicode: correct it") from None
    return value


def _labels(values: list[Any], lines: list[int], path: Path, known: frozenset[str]) -> list[str] | None:
    """The labels' names, or None where no row has one."""
    if all(
        labels.is_missing(value, known) or (str(value) == labels.UNLABELLED and str(value) not in known)
        for value in values
    ):
        return None
    kind = type(values[0])
    found = []
    for value, line in zip(values, lines, strict=True):
        where = f"{path} line {line}"
        if labels.is_missing(value, known):
            raise UserError(
                f"{where} has no label ('{printable(value, 20)}'), and other rows have one: give it one, or "
                "remove the row; a class of this name needs another"
            )
        if type(value) is not kind:
            raise UserError(
                f"{where}: the label is {tables.kind_of(value)}, and that of line {lines[0]} is "
                f"{tables.kind_of(values[0])}: write all in one way"
            )
        found.append(labels.label_name(value, where, known))
    return found
