"""Reads lines of UTF-8 text, plain or compressed, in bounded memory. A file that is not text, incomplete, or
suspiciously large when decompressed is refused with its name and line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError, one_line
from tlc_jax.storage.untrusted import open_regular

LONGEST_LINE = 64 << 20  # bytes: several books in one JSON object
LONGEST_TEXT = 1 << 23  # characters of a line that is tokenised
_BLOCK = 1 << 20
COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
_MOST_EXPANSION = 200  # repeated text is compressed a hundredfold, a decompression bomb far more
_ALWAYS = 16 << 20  # bytes that any archive may hold, however small
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: Path, *, any_end: bool = False) -> Iterator[str]:
    """The lines of a `.gz`, a `.zst` or a plain file, without line ends and without a byte order mark.

    A line ends with LF or CRLF; with `any_end` also with the lone CR of old Macs. Raises UserError with the
    path and the line for a file that cannot be read, a damaged archive, one that expands to 200 times its own
    size, other encodings, NUL bytes, and lines of more than `LONGEST_LINE` bytes.
    """
    number = 0
    try:
        with _opened(path) as stream:
            for block in _blocks(path, stream, any_end):
                lines = _decoded(path, block, number).split("\n")
                if not lines[-1]:
                    lines.pop()
                number += len(lines)
                yield from lines if b"\r" not in block else (line.rstrip("\r") for line in lines)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UserError(
            f"{path} cannot be read after line {number:,} ({reason}): replace the file"
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A binary stream of the decompressed content. pyarrow's reader notices an incomplete archive, for which
    that of zstandard gives a shorter text."""
    import pyarrow

    compression = COMPRESSION.get(path.suffix.lower())
    with open_regular(path) as file:
        if not compression:
            yield file
            return
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not size:
            raise UserError(
                f"{path} is empty, but even an archive of an empty file has bytes: replace the file"
            )
        with pyarrow.input_stream(pyarrow.PythonFile(file), compression=compression) as stream:
            yield BoundedStream(path, stream, most_expanded(size))


def most_expanded(size: int) -> int:
    """The most bytes that an archive of `size` bytes may hold."""
    return max(_ALWAYS, _MOST_EXPANSION * size)


class BoundedStream:
    """A decompressed stream of at most `most` bytes."""

    def __init__(self, path: Path, stream: Any, most: int):
        self._path, self._stream, self._left = path, stream, most

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise UserError(
                f"{self._path} expands to more than {_MOST_EXPANSION:,} times its own size, which no text "
                "does: if that is right, decompress it yourself"
            )
        return content


def _blocks(path: Path, stream: Any, any_end: bool) -> Iterator[bytes]:
    """The content in pieces that end with a line end, except for the last."""
    held: list[bytes] = []  # pieces of a line without its end
    size = lines = 0
    first = True
    while content := stream.read(_BLOCK):
        stopping.check()
        if first:
            _check_encoding(path, content)
            content, first = content.removeprefix(_BYTE_ORDER_MARK), False
        end = content.rfind(b"\n") + 1
        if any_end:  # a CR at the very end may be the first half of a CRLF
            end = max(end, content.rstrip(b"\r").rfind(b"\r") + 1)
        size += len(content) if not end else 0
        if size > LONGEST_LINE:
            raise UserError(
                f"{path} line {lines + 1:,} is longer than {LONGEST_LINE:,} bytes: break the text into "
                "lines, or remove the file if it is not text"
            )
        if not end:
            held.append(content)
            continue
        block = _with_ends(b"".join([*held, content[:end]]), any_end)
        lines += block.count(b"\n")
        yield block
        held, size = [content[end:]], len(content) - end
    if rest := b"".join(held):
        yield _with_ends(rest, any_end)


def _with_ends(block: bytes, any_end: bool) -> bytes:
    """The block with LF as the only line end if any line end counts; otherwise as it is."""
    if not any_end or b"\r" not in block:
        return block
    return re.sub(rb"\r+\n", b"\n", block).replace(b"\r", b"\n")


def _check_encoding(path: Path, content: bytes) -> None:
    if content.startswith(_OTHER_UNICODE):
        raise UserError(
            f"{path} is in UTF-16 or UTF-32, not in UTF-8: convert it (iconv -f UTF-16 -t UTF-8 {path.name})"
        )


def _decoded(path: Path, block: bytes, before: int) -> str:
    """The text of a block that follows `before` lines."""
    if b"\0" in block:
        line = before + block.count(b"\n", 0, block.index(b"\0")) + 1
        raise UserError(
            f"{path} line {line:,} holds a NUL byte, so it is not text: convert the file to UTF-8 "
            "(it may be UTF-16), or remove it"
        )
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = before + block.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} cannot be read as text: line {line:,} is not UTF-8 (byte 0x{block[error.start]:02x}); "
            f"convert the file, for example with iconv -f ISO-8859-1 -t UTF-8 {path.name}"
        ) from error


def check_text(text: str, location: str) -> None:
    """Refuse a text with a line of more than `LONGEST_TEXT` characters: tokenising it would take gigabytes.
    `location` begins the message."""
    if len(text) > LONGEST_TEXT and (longest := max(map(len, text.split("\n")))) > LONGEST_TEXT:
        raise UserError(
            f"{location} has {longest:,} characters without a line break, {LONGEST_TEXT:,} are the most: "
            "break the text into paragraphs"
        )
