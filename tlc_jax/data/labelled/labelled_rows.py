"""Reads one table of labelled text; an error names the line that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted, first_of, printable
from tlc_jax.data import tables
from tlc_jax.data.csv_rows import csv_rows
from tlc_jax.data.labelled import labels
from tlc_jax.data.lines import LONGEST_TEXT
from tlc_jax.data.parquet_rows import column_names, parquet_rows

WANTED = "text, label and, for pairs of texts, text_b"
_COLUMNS = ("text", "text_b", "label")
_JSON = "write the table as JSON lines (pandas: to_json('train.jsonl', orient='records', lines=True))"
_RENAME = {
    ".jsonl": "rename them in every row",
    ".parquet": "rename them (pandas: rename(columns={'sentence': 'text'}))",
    ".csv": "rename them (such as sed -i '1s/sentence/text/' FILE), or, if the line is a row, put their "
    "names above it (sed -i '1i text,label' FILE)",
    ".tsv": "rename them (such as sed -i '1s/sentence/text/' FILE), or, if the line is a row, put their "
    "names above it (sed -i '1i text\\tlabel' FILE)",
}


@dataclass(frozen=True)
class Table:
    """A table as it was read. `labels` is None if it has none; `lines` are the line numbers of its rows,
    `unused` the columns that are not read, and `notes` say what was left out or changed."""

    path: Path
    texts: list[tuple[str, ...]]
    labels: list[str] | None
    lines: list[int]
    unused: tuple[str, ...]
    notes: tuple[str, ...] = ()


class NoTextError(UserError):
    """A table has no column of texts."""


def read_table(path: Path, known: Sequence[str] | None = None) -> Table:
    """The texts and labels of a table; UserError names a line that is wrong. `known` are the classes of a
    model or of the training table; without them, this is the training table, and its labels make the
    classes."""
    texts: list[tuple[str, ...]] = []
    values: list[Any] = []
    lines: list[int] = []
    fields: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    for line, row, present, sides in _rows(path):
        if not lines:
            fields = present
            unused = tuple(name for name in row if name not in _COLUMNS and name)
        texts.append(sides)
        values.append(row.get("label"))
        lines.append(line)
    if not lines:
        raise UserError(f"{path} has no rows: fill it or remove it")
    notes: list[str] = []
    has_labels = not _has_none(values, frozenset(known or ()))
    if empty := [i for i, sides in enumerate(texts) if not all(sides)]:
        _check_empty(empty, texts, lines, path, fields, has_labels)
        notes.append(
            f"{path.name}: left out for an empty text: {counted(len(empty), 'row')}, the first in line "
            f"{lines[empty[0]]}"
        )
        kept = [i for i, sides in enumerate(texts) if all(sides)]
        texts, values, lines = [texts[i] for i in kept], [values[i] for i in kept], [lines[i] for i in kept]
    if not has_labels:
        return Table(path, texts, None, lines, unused, tuple(notes))
    names, more_notes = _labels(values, lines, path, known)
    return Table(path, texts, names, lines, unused, (*notes, *more_notes))


def read_texts(path: Path) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The text of each row, or its pair of texts, whatever its label; and the names of the other columns."""
    for _, row, fields, sides in _rows(path):
        yield sides, tuple(name for name in row if name and (name not in fields or name == "label"))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any], tuple[str, ...], tuple[str, ...]]]:
    """(line, values by column name, those of _COLUMNS that the table has, texts) of each row; UserError for a
    row that has other columns than the first."""
    fields: tuple[str, ...] = ()
    first = 0
    for line, row in _objects(path):
        location = tables.row_location(path, line)
        if not fields:
            fields, first = _fields(row, path, line), line
        if missing := [field for field in fields if field not in row]:
            raise UserError(f"{location} has no {missing[0]}, but line {first} has: make the rows alike")
        if more := [field for field in _COLUMNS if field in row and field not in fields]:
            raise UserError(f"{location} has {more[0]}, but line {first} has none: make the rows alike")
        yield line, row, fields, tuple(_text(row[name], name, location) for name in fields if name != "label")


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, values by column name) of each row."""
    kind = tables.table_kind(path)
    if kind == ".jsonl":
        for line, value in tables.jsonl_objects(path):
            yield line, _by_column(list(value), list(value.values()), f"{path} line {line}")
    elif kind == ".parquet":
        yield from _parquet_objects(path)
    elif kind == ".csv":
        yield from _csv_objects(path)
    else:
        yield from _tsv_objects(path)


def _parquet_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    names = column_names(path)
    columns = _by_column(names, names, f"{path} row 1")
    used = [columns[field] for field in _fields(columns, path, 1)]
    for number, row in parquet_rows(path, used):
        yield number, {name: row.get(column) for name, column in columns.items()}


def _csv_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    columns: list[str] = []
    for line, cells in csv_rows(path):
        if columns:
            yield line, dict(zip(columns, cells, strict=True))
            continue
        columns = [tables.column_name(cell) for cell in cells]
        _fields(_by_column(cells, cells, f"{path} line {line}"), path, line)


def _tsv_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    header: list[str] = []
    columns: list[str] = []
    rows, quoted = 0, 0
    for line, cells in tables.tsv_rows(path):
        if not header:
            header, columns = cells, [tables.column_name(cell) for cell in cells]
            if any(tables.is_quoted(cell) for cell in cells):
                raise UserError(
                    f"{path} line {line} names columns in quotes, which are not interpreted: {_JSON}"
                )
            tables.check_separator(path, line, cells, lambda names: "text" in map(tables.column_name, names))
            _fields(_by_column(cells, cells, f"{path} line {line}"), path, line)
        elif cells == header:
            raise UserError(f"{path} line {line} repeats the names of the columns: remove it")
        elif any('"' in cell and tables.is_surely_quoted(cell) for cell in cells):
            raise UserError(f"{path} line {line} has cells in quotes, which are not interpreted: {_JSON}")
        else:
            row = dict(zip(columns, cells, strict=True))
            rows, quoted = rows + 1, quoted + tables.is_between_quotes(row["text"])
            yield line, row
    if tables.are_quoted(quoted, rows):
        raise UserError(
            f"{path} has quotes around the text of {quoted:,} of its {rows:,} rows, which are not "
            f"interpreted: {_JSON}"
        )


def _by_column(names: list[str], values: list[Any], location: str) -> dict[str, Any]:
    columns = [tables.column_name(name) for name in names]
    row = dict(zip(columns, values, strict=True))
    if len(row) < len(columns):
        twice = next((name for name, times in Counter(columns).items() if name and times > 1), None)
        if twice is not None:
            raise UserError(
                f"{location} has two columns called '{printable(twice, 60)}': rename or remove one"
            )
    return row


def _fields(row: dict[str, Any], path: Path, line: int) -> tuple[str, ...]:
    """The wanted columns that the table has."""
    if "text" not in row:
        raise NoTextError(
            f"{tables.row_location(path, line)} has the columns {first_of(list(row))}; wanted are {WANTED}: "
            f"{_RENAME[tables.table_kind(path)]}"
        )
    return tuple(field for field in _COLUMNS if field in row)


def _text(value: Any, field: str, location: str) -> str:
    """The text of a cell; empty if it has none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{location}: {field} is {tables.kind_of(value)}, not text: write it in quotes")
    if not value.strip():
        return ""
    if len(value) > LONGEST_TEXT:
        raise UserError(
            f"{location}: {field} has {len(value):,} characters, {LONGEST_TEXT:,} are the most: shorten it"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{location}: {field} is not a string of Unicode: correct it") from None
    return value


def _check_empty(
    empty: list[int],
    texts: list[tuple[str, ...]],
    lines: list[int],
    path: Path,
    fields: tuple[str, ...],
    has_labels: bool,
) -> None:
    """UserError for the first row with an empty text, unless such rows are few and the table has labels, so
    that no row needs a prediction."""
    if has_labels and len(empty) <= max(1, len(texts) // 100) and len(empty) < len(texts):
        return
    sides = [field for field in fields if field != "label"]
    field = sides[texts[empty[0]].index("")]
    others = f" (so are {len(empty) - 1:,} other rows)" if len(empty) > 1 else ""
    raise UserError(
        f"{tables.row_location(path, lines[empty[0]])}: {field} is empty{others}: write a text or remove the "
        "row"
    )


def _has_none(values: list[Any], known: frozenset[str]) -> bool:
    """Whether no row has a label: each is missing or -1."""
    return all(labels.is_missing(value, known) or str(value) == labels.UNLABELLED for value in values)


def _labels(
    values: list[Any], lines: list[int], path: Path, known: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The names of the labels, and notes on them."""
    names, notes = frozenset(known or ()), list[str]()
    values, stripped = _without_padding(values, names)
    if stripped:
        notes.append(
            f"{path.name}: spaces around the label removed: {counted(len(stripped), 'row')}, the first in "
            f"line {lines[stripped[0]]}"
        )
    if known is None:
        words = labels.words_as_classes(values)
        names = frozenset(words)
        notes += [f"{path.name}: {word} is a class: {count:,} rows" for word, count in words.items()]
    kind = type(values[0])
    label_names = []
    for value, line in zip(values, lines, strict=True):
        location = tables.row_location(path, line)
        if labels.is_missing(value, names):
            raise UserError(
                f"{location} has no label ('{printable(value, 20)}'), but other rows have one: write one, or "
                f"remove the row; if this is the name of a class, give the class another name, or at least "
                f"{labels.LEAST_ROWS} rows and {labels.LEAST_PERCENT} % of the training rows"
            )
        if type(value) is not kind:
            raise UserError(
                f"{location}: the label is {tables.kind_of(value)}, but that of line {lines[0]} is "
                f"{tables.kind_of(values[0])}: write all labels in the same way"
            )
        label_names.append(labels.label_name(value, location, names))
    return label_names, notes


def _without_padding(values: list[Any], known: frozenset[str]) -> tuple[list[Any], list[int]]:
    """The labels, without the spaces around a label that other rows have without spaces; and the indices of
    those that were changed."""
    names = known | {value for value in values if isinstance(value, str)}
    padded = [
        i
        for i, value in enumerate(values)
        if isinstance(value, str) and value not in known and value != value.strip() in names - {""}
    ]
    stripped = list(values)
    for i in padded:
        stripped[i] = stripped[i].strip()
    return stripped, padded
