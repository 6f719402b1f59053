"""Documents of the user's own text files: the blocks between blank lines of .txt, a field of .jsonl, a
column of .parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.printable import first_of
from tlc_jax.data import provenance
from tlc_jax.data.lines import check_text, read_lines
from tlc_jax.data.parquet_rows import column_names, parquet_rows
from tlc_jax.data.text.text_files import find_text_files
from tlc_jax.data.text.text_source import TextSource

LONGEST_DOCUMENT = 1 << 28  # characters


def text_files(path: str | None, text_field: str) -> TextSource:
    """The documents of one file, of a folder (searched recursively) or of a glob."""
    if path is None:
        raise UserError(
            "data.dir is not set: give --data.dir a file, a folder or a glob of text, or --data.name "
            "docs for the documentation installed here"
        )
    paths = find_text_files(path)

    def documents() -> Iterator[str]:
        for file in paths.files.values():
            yield from documents_of(file, text_field)

    size = sum(file.stat().st_size for file in paths.files.values())
    files = {name: epath.Path(file) for name, file in paths.files.items()}
    return TextSource(
        name=f"{len(paths.files):,} text files ({size / 1e6:.1f} MB) under {path}",
        origin={"kind": "files", "text_field": text_field, **paths.record()},
        files=files,
        documents=documents,
        notes=(*paths.notes(), *provenance.notes(files)),
    )


def documents_of(path: Path, text_field: str) -> Iterator[str]:
    """The documents of one file, by its name."""
    if ".jsonl" in path.name.lower():
        yield from _jsonl_documents(path, text_field)
    elif path.name.lower().endswith(".parquet"):
        yield from _parquet_documents(path, text_field)
    else:
        yield from _txt_documents(path)


def _parquet_documents(path: Path, text_field: str) -> Iterator[str]:
    if text_field not in (names := column_names(path)):
        raise UserError(
            f"{path} has no column {text_field!r}; it has {first_of(names)}: set --data.text-field to one of "
            "them"
        )
    for number, row in parquet_rows(path, [text_field]):
        text = row[text_field]
        if text is not None and not isinstance(text, str):
            raise UserError(f"{path} row {number:,}: {text_field!r} is not text: set --data.text-field")
        if text:
            check_text(text, f"{path} row {number:,}")
            yield text


def _txt_documents(path: Path) -> Iterator[str]:
    lines: list[str] = []
    size = first = 0
    for number, line in enumerate(read_lines(path, any_end=True), start=1):
        if line.strip():
            first = first if lines else number
            size += len(line)
            lines.append(line)
            check_text(line, f"{path} line {number:,}")
            if size > LONGEST_DOCUMENT:
                raise UserError(
                    f"{path} has no blank line in the {size:,} characters from line {first:,} on: separate "
                    "its documents by blank lines"
                )
        elif lines:
            yield "\n".join(lines)
            lines, size = [], 0
    if lines:
        yield "\n".join(lines)


def _jsonl_documents(path: Path, text_field: str) -> Iterator[str]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[text_field]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{path} line {number:,} is not a JSON object with a field {text_field!r} "
                f"({type(error).__name__}: {one_line(error)}): correct it or set --data.text-field"
            ) from error
        if not isinstance(text, str) or not _is_encodable(text):
            raise UserError(f"{path} line {number:,}: {text_field!r} is not a string of Unicode: correct it")
        check_text(text, f"{path} line {number:,}")
        yield text


def _is_encodable(text: str) -> bool:
    """False for a lone half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
