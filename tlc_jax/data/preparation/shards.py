"""Shards of prepared data: rows as lines of a compressed file, counted, in bounded memory."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.data.lines import LONGEST_LINE, LONGEST_TEXT
from tlc_jax.data.preparation.public_data import LABELLED, PAIRS, TEXT, Row
from tlc_jax.storage.paths import writing

_AT_ONCE = 1 << 20  # bytes that are compressed at a time
_MOST_LABELS = 20  # that are counted; measurements may be labels too
_ENDS = re.compile(r"[\t\r\n]+")
EMPTY = "an empty text"
DAMAGED = "too few cells in the published file"
TOO_LONG = f"a line of more than {LONGEST_TEXT:,} characters"
NO_UNICODE = "half of a character"
UNLABELLED = "no label, unlike others"


class LeftOut(Exception):
    """A row that is not written; the argument says why."""


@dataclass(frozen=True)
class Line:
    """A row as it is written, with the characters of its texts and its label, if it has one."""

    content: bytes
    characters: int
    label: str | None = None


@dataclass
class Counts:
    """Rows and characters that were written; rows that were left out, by reason; rows by label."""

    rows: int = 0
    characters: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, line: Line) -> None:
        self.rows += 1
        self.characters += line.characters
        if line.label is not None and len(self.labels) <= _MOST_LABELS:
            self.labels[line.label] += 1

    def add_record(self, record: Mapping[str, Any]) -> None:
        """Add what `record` returned for another shard."""
        self.rows += record["rows"]
        self.characters += record["characters"]
        self.left_out.update(record.get("left_out", {}))
        self.labels.update(record.get("labels", {}))

    def record(self) -> dict[str, Any]:
        """As fields of a manifest; labels only where they are few."""
        record: dict[str, Any] = {"rows": self.rows, "characters": self.characters}
        if self.left_out:
            record["left_out"] = dict(self.left_out)
        if 0 < len(self.labels) <= _MOST_LABELS:
            record["labels"] = dict(sorted(self.labels.items()))
        return record


def write_shard(
    path: Path,
    kind: str,
    rows: Callable[[], Iterable[Row]],
    languages: Sequence[str],
    advance: Callable[[int], None],
) -> Counts:
    """Write rows to a .zst, which appears once it is whole; rows that no run could read are left out and
    counted. `advance` is called with bytes of text. UserError if no row is left."""
    counts = Counts()
    line_of = _line_maker(kind, languages, kind == LABELLED and _has_labels(rows()))
    part = path.with_name(f"{path.name}.part")
    with writing(part), _compressed(part) as write:
        block: list[bytes] = [f"{languages[0]}\t{languages[1]}\n".encode()] if kind == PAIRS else []
        size = 0
        for row in rows():
            stopping.check()
            try:
                line = line_of(row)
            except LeftOut as reason:
                counts.left_out[str(reason)] += 1
                continue
            counts.add(line)
            block.append(line.content)
            size += len(line.content)
            if size > _AT_ONCE:
                write(b"".join(block))
                advance(size)
                block, size = [], 0
        write(b"".join(block))
        advance(size)
    if not counts.rows:
        part.unlink()
        reasons = ", ".join(f"{count:,} rows have {reason}" for reason, count in counts.left_out.items())
        raise UserError(
            f"nothing is left to write to {path.name} ({reasons or 'there are no rows'}): check the data"
        )
    part.replace(path)
    return counts


@contextlib.contextmanager
def _compressed(path: Path) -> Iterator[Callable[[bytes], Any]]:
    import pyarrow

    with (
        path.open("wb") as file,
        pyarrow.CompressedOutputStream(pyarrow.PythonFile(file, mode="w"), "zstd") as stream,
    ):
        yield stream.write


def _has_labels(rows: Iterable[Row]) -> bool:
    """Whether any row has a label: reads up to the first that has."""
    return any(row is not None and row.get("label") is not None and str(row["label"]) != "-1" for row in rows)


def _line_maker(kind: str, languages: Sequence[str], has_labels: bool) -> Callable[[Row], Line]:
    """A function from a row to its line; it raises LeftOut for a row that is not written."""

    def text_line(row: Row) -> Line:
        text = _text(row, "text")
        return Line(_json({"text": text}), len(text))

    def labelled_line(row: Row) -> Line:
        names = [name for name in ("text", "text_b") if row is None or name in row]
        values: dict[str, Any] = {name: _text(row, name) for name in names}
        characters = sum(map(len, values.values()))
        if has_labels:
            values["label"] = _label(row)
        return Line(_json(values), characters, str(values["label"]) if has_labels else None)

    def pair_line(row: Row) -> Line:
        pair = [_ENDS.sub(" ", _text(row, language)).strip() for language in languages]
        return Line(_encoded("\t".join(pair)), sum(map(len, pair)))

    return {TEXT: text_line, LABELLED: labelled_line, PAIRS: pair_line}[kind]


def _text(row: Row, name: str) -> str:
    if row is None:
        raise LeftOut(DAMAGED)
    text = row[name]
    if text is None or (isinstance(text, str) and not text.strip()):
        raise LeftOut(EMPTY)
    if not isinstance(text, str):
        raise UserError(
            f"the column for {name} holds {type(text).__name__}, not text: name another with --columns"
        )
    if len(text) > LONGEST_TEXT and max(map(len, text.split("\n"))) > LONGEST_TEXT:
        raise LeftOut(TOO_LONG)
    return text


def _label(row: Mapping[str, Any] | None) -> Any:
    label = row.get("label") if row is not None else None
    if label is None or label == "" or (isinstance(label, float) and math.isnan(label)):
        raise LeftOut(UNLABELLED)
    return label


def _json(values: Mapping[str, Any]) -> bytes:
    line = _encoded(json.dumps(values, ensure_ascii=False))
    if len(line) > LONGEST_LINE:
        raise LeftOut(f"more than {LONGEST_LINE:,} bytes")
    return line


def _encoded(text: str) -> bytes:
    try:
        return f"{text}\n".encode()
    except UnicodeEncodeError:
        raise LeftOut(NO_UNICODE) from None
