"""Help that fits 80 columns: tyro wraps what is in its boxes, but neither usage nor description."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import textwrap
from typing import Any, TextIO

_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_CHOICES = re.compile(r"\{[^{}]*\}")


class _Wrapped:
    """A stream that wraps long lines outside of boxes."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._width = min(80, shutil.get_terminal_size().columns)

    def write(self, text: str) -> int:
        return self._stream.write("\n".join(map(self._line, text.split("\n"))))

    def flush(self) -> None:
        self._stream.flush()

    def _line(self, line: str) -> str:
        text = _COLOURS.sub("", line)
        if text.startswith("usage: ") and len(text) > self._width:
            # names of commands, which stand below with what they do
            line, text = (_CHOICES.sub("COMMAND ...", each) for each in (line, text))
        boxed = text[:1] in ("╭", "│", "╰", " ")
        if boxed or len(text) <= self._width:
            return line
        return textwrap.fill(text, self._width, break_long_words=False, break_on_hyphens=False)

    def __getattr__(self, name: str) -> Any:  # what tyro asks to choose colours and characters
        return getattr(self._stream, name)


def output(wrapped: bool) -> contextlib.AbstractContextManager:
    """A context in which standard output is wrapped, or left as it is."""
    return contextlib.redirect_stdout(_Wrapped(sys.stdout)) if wrapped else contextlib.nullcontext()
