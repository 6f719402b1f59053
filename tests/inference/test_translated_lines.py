"""Lines of a translation, as they are read and written."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tlc_jax.core.errors import UserError
from tlc_jax.inference.line_stream import lines_of, writer_to


def test_what_cannot_be_written_or_read_is_told() -> None:
    told = r"standard output cannot be written \(No space left on device\): free some space"
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(UserError, match=told):
        writer_to(full)("text")
    folder = os.open("/", os.O_RDONLY)
    with pytest.raises(UserError, match="standard input cannot be read"):
        list(lines_of(folder))
    os.close(folder)


def test_a_line_without_end_is_refused_in_bounded_memory() -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file, contextlib.suppress(BrokenPipeError):
            file.write(b"one\ntwo\n")
            for _ in range(1000):
                file.write(b"x" * (1 << 20))

    thread = threading.Thread(target=write)
    thread.start()
    found = lines_of(reading)
    assert [next(found), next(found)] == [b"one", b"two"]
    with pytest.raises(UserError, match="line 3 of standard input is longer than 1,048,576 bytes"):
        next(found)
    os.close(reading)
    thread.join(10)


@given(st.binary(max_size=60))
def test_lines_are_those_between_line_feeds(content: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    whole = content.split(b"\n")
    assert list(lines_of(reading)) == (whole if whole[-1] else whole[:-1])
    os.close(reading)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_translation_cannot_draw_on_a_terminal(terminal: bool) -> None:
    """To a file or a pipe it goes as it is."""

    class Output(io.BytesIO):
        def isatty(self) -> bool:
            return terminal

    text, output = "a\x1b]0;title\x07b\x9bc\nGr\u00f6\u00dfe \u5927\n", Output()
    writer_to(output)(text)
    shown = "a\\x1b]0;title\\x07b\\x9bc\nGr\u00f6\u00dfe \u5927\n"
    assert output.getvalue().decode() == (shown if terminal else text)
