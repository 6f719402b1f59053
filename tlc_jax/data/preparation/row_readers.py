"""Rows of downloaded files, as what a kind of data needs: any table, GLUE's .tsv, parallel files of lines."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of, printable
from tlc_jax.data import tables
from tlc_jax.data.csv_rows import csv_rows
from tlc_jax.data.lines import read_lines
from tlc_jax.data.parquet_rows import column_names, parquet_rows
from tlc_jax.data.preparation.public_data import Row, RowReader
from tlc_jax.data.text.documents import documents_of

_SEGMENT = re.compile(r"<seg[^>]*>(.*?)</seg>", re.IGNORECASE)


def documents(column: str = "text") -> RowReader:
    """Running text: documents of .txt, a field of .jsonl, a column of .parquet."""

    def rows(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            if tables.table_kind(path) == ".parquet":
                _present(path, {"text": column}, (), column_names(path))
            elif tables.table_kind(path) == ".jsonl":
                _, first = next(tables.jsonl_objects(path), (0, {column: ""}))
                _present(path, {"text": column}, (), list(first))
            try:
                yield from ({"text": text} for text in documents_of(path, column))
            except UserError as error:  # with an option that the other commands have
                named = str(error).replace("set --data.text-field", "name another with --columns text=NAME")
                raise UserError(named) from error

    return rows


def whole_files() -> RowReader:
    """Running text: each .txt is one document, as in archives of books."""

    def rows(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            yield {"text": "\n".join(read_lines(path, any_end=True))}

    return rows


def columns(
    wanted: Mapping[str, str], optional: Sequence[str] = (), unused: set[str] | None = None
) -> RowReader:
    """Tables, of whose columns some are wanted: {"text": "sentence"} takes the column sentence for the text.
    UserError names a column that is missing, unless it is `optional`. The names of the others are added to
    `unused`."""

    def rows(paths: Sequence[Path]) -> Iterator[Row]:
        for path in paths:
            for values in _objects(path, wanted, optional, set() if unused is None else unused):
                yield {field: values[column] for field, column in wanted.items() if column in values}

    return rows


def glue_table(
    wanted: Mapping[str, str], labels: Sequence[str] = (), header: Sequence[str] = ()
) -> RowReader:
    """A .tsv of GLUE, in which quotes mean nothing; `labels` are the names of 0, 1, ...; `header` names the
    columns of a file that does not. A row of too few cells is damaged, as a few are in QQP."""

    def rows(paths: Sequence[Path]) -> Iterator[Row]:
        [path] = paths
        lines = read_lines(path)
        names = list(header) or next(lines, "").split("\t")
        if missing := [column for column in wanted.values() if column not in names]:
            raise UserError(f"{path} has no column {missing[0]}; it has {first_of(names)}")
        at = {field: names.index(column) for field, column in wanted.items()}
        for line in lines:
            cells = line.split("\t")
            if len(cells) <= max(at.values()):
                yield None
                continue
            row = {field: cells[i] for field, i in at.items()}
            if (label := row.get("label", "")).isdigit() and int(label) < len(labels):
                row["label"] = labels[int(label)]
            yield row

    return rows


def parallel_lines(names: Sequence[str]) -> RowReader:
    """Two files, each line of one the translation of the same line of the other; .sgm too, as of newstest."""

    def rows(paths: Sequence[Path]) -> Iterator[Row]:
        one, other = paths
        for number, pair in enumerate(zip_longest(_sentences(one), _sentences(other)), start=1):
            if None in pair:
                short = (one, other)[pair.index(None)]
                raise UserError(
                    f"{short} ends before line {number}, which the other language has: get it again"
                )
            yield dict(zip(names, pair, strict=True))

    return rows


def _sentences(path: Path) -> Iterator[str]:
    if ".sgm" not in path.name:
        yield from read_lines(path)
        return
    for line in read_lines(path):
        yield from (html.unescape(text).strip() for text in _SEGMENT.findall(line))


def _objects(
    path: Path, wanted: Mapping[str, str], optional: Sequence[str], unused: set[str]
) -> Iterator[Mapping[str, Any]]:
    """The rows of a table of any kind, by names of columns."""
    kind = tables.table_kind(path)
    if kind == ".parquet":
        names = column_names(path)
        unused.update({*names} - {*wanted.values()})
        yield from (row for _, row in parquet_rows(path, _present(path, wanted, optional, names)))
    elif kind == ".jsonl":
        for line, row in tables.jsonl_objects(path):
            if line == 1:
                _present(path, wanted, optional, list(row))
                unused.update(row.keys() - {*wanted.values()})
            yield row
    else:
        header: list[str] = []
        for _, cells in csv_rows(path) if kind == ".csv" else tables.tsv_rows(path):
            if header:
                yield dict(zip(header, cells, strict=True))
            else:
                header = [cell.strip() for cell in cells]
                _present(path, wanted, optional, header)
                unused.update({*header} - {*wanted.values()})


def _present(
    path: Path, wanted: Mapping[str, str], optional: Sequence[str], names: Sequence[str]
) -> list[str]:
    """The wanted columns that are there; UserError for one that is missing or there twice."""
    for field, column in wanted.items():
        if names.count(column) > 1:
            raise UserError(f"{path} has two columns called {printable(column, 60)}: rename or remove one")
        if column not in names and field not in optional:
            only = names[0] if len(names) == 1 and re.fullmatch(r"[\w.-]+", names[0]) else "NAME"
            raise UserError(
                f"{path} has no column {printable(column, 60)}; it has {first_of(names)}: say which one is "
                f"meant with --columns {field}={only}{_perhaps_no_header(path, wanted, names)}"
            )
    return [column for column in wanted.values() if column in names]


def _perhaps_no_header(path: Path, wanted: Mapping[str, str], names: Sequence[str]) -> str:
    """What to do if the first line of a table is a row: where it holds more than words, it may be one."""
    kind = tables.table_kind(path)
    if kind not in (".csv", ".tsv") or all(re.fullmatch(r"[\w.-]*", name) for name in names):
        return ""
    above = {".csv": ",", ".tsv": r"\t"}[kind].join(field for field in ("text", "label") if field in wanted)
    return (
        f"; or, if its first line is no header but a row, put the names of all {len(names)} columns above it "
        f"(such as sed -i '1i {above}' FILE)"
    )
