"""Rows of a .parquet, in bounded memory: a few megabytes of the wanted columns at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import first_of, printable
from tlc_jax.data.lines import most_expanded
from tlc_jax.storage.untrusted import DOCUMENT, one_reason, parse_json, size_of

_AT_ONCE = 8 << 20  # bytes of a batch of rows
_MOST_ROWS = 1000  # of a batch
_BUFFER = 1 << 20  # bytes that are read ahead of each column
_LARGEST_VALUES = 100_000_000  # of one kind in the metadata, which is parsed before anything is checked
_DAMAGED = "{} cannot be read as parquet ({}): copy or download it again"


def column_names(path: Path) -> list[str]:
    """Names of all columns; fields of a struct are named `struct.field`, as pyarrow does. UserError if the
    file is not a whole parquet."""
    return list(_leaves(path))


def columns_of_text(path: Path) -> list[str]:
    """Names of the columns that hold text."""
    return [name for name, kind in _leaves(path).items() if kind == "text"]


def row_count(path: Path) -> int:
    return _opened(path).metadata.num_rows


def parquet_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number from 1, values by name) of each row. UserError if the file is damaged, or has no such
    column, or one whose values are neither text nor numbers nor true or false.

    Numbers of classes become their names where the file has them, as those of the Hugging Face hub do; there
    -1 stands for no label: None.
    """
    import pyarrow

    leaves = _leaves(path)
    for name in names:
        if name not in leaves:
            raise UserError(f"{path} has no column {printable(name, 60)}; it has {first_of(list(leaves))}")
        if leaves[name] not in ("text", "number"):
            raise UserError(
                f"{path}: the column {printable(name, 60)} holds {leaves[name]}, not text or numbers"
            )
    number = 0
    classes = {name: values for name, values in _class_names(path).items() if name in names}
    try:
        for batch in _batches(path, names):
            stopping.check()
            for values in zip(*batch, strict=True):
                number += 1
                row = dict(zip(names, values, strict=True))
                for name, words in classes.items():
                    row[name] = _class_name(row[name], words, f"{path} row {number}", name)
                yield number, row
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(_DAMAGED.format(path, one_reason(error))) from error


def _batches(path: Path, names: Sequence[str]) -> Iterator[list[list[Any]]]:
    """The wanted columns of some rows at a time, each as a list of values."""
    import pyarrow

    file = _opened(path)
    metadata = file.metadata
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > most_expanded(size_of(path)):
        raise UserError(
            f"{path} expands to {size:,} bytes, which no text does: if that is right, write it as .jsonl"
        )
    per_row = max(1, size // max(1, metadata.num_rows))
    rows = max(1, min(_MOST_ROWS, _AT_ONCE // per_row))
    for batch in file.iter_batches(batch_size=rows, columns=list(names), use_threads=False):
        table = _flattened(pyarrow.Table.from_batches([batch]))
        columns = dict(zip(table.column_names, table.columns, strict=True))  # a name may stand there twice
        yield [columns[name].to_pylist() for name in names]


def _flattened(table: Any) -> Any:
    """The table with the fields of structs as columns of their own."""
    from pyarrow import types

    while any(types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return table


def _opened(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    size_of(path)  # OSError for a pipe, which would be waited for
    try:
        return pyarrow.parquet.ParquetFile(
            path,
            buffer_size=_BUFFER,
            pre_buffer=False,
            page_checksum_verification=True,  # of files that have checksums
            thrift_string_size_limit=DOCUMENT,
            thrift_container_size_limit=_LARGEST_VALUES,
        )
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(_DAMAGED.format(path, one_reason(error))) from error


def _leaves(path: Path) -> dict[str, str]:
    """Names of all columns, fields of structs among them, and what they hold: text, number, or a type of
    Arrow."""
    schema = _flattened(_opened(path).schema_arrow.empty_table()).schema
    return {field.name: _content(field.type) for field in schema}


def _content(kind: Any) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind):
        return "number"
    return f"values of the type {kind}"


def _class_names(path: Path) -> dict[str, list[str]]:
    """Names of classes by column, from the description that the library `datasets` writes into a file."""
    text = (_opened(path).schema_arrow.metadata or {}).get(b"huggingface")
    try:
        features = parse_json(text.decode())["info"]["features"] if text else {}
        return {
            name: [str(value) for value in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):  # another program's words under that name
        return {}


def _class_name(value: Any, names: list[str], location: str, column: str) -> str | None:
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise UserError(
            f"{location}: {column} is {value}, but the file names {len(names)} classes: correct it"
        )
    return names[value]
