"""A console on which untrusted text cannot move the cursor, change colours or hide anything."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from tlc_jax.core.printable import printable

_LONGEST = 100_000


def is_screen(stream: Any) -> bool:
    """Whether a stream is a terminal on which a line can be drawn again. In a notebook it is none, though
    the commands of a cell get a terminal: there, the rest of a longer line stays behind a shorter one."""
    in_notebook = "JPY_PARENT_PID" in os.environ or "ipykernel" in sys.modules
    with contextlib.suppress(ValueError):  # it is closed
        return not in_notebook and bool(getattr(stream, "isatty", lambda: False)())
    return False


class SafeConsole(Console):
    """Prints strings literally, in tables too: `[brackets]` and `:names:` have no meaning, and control
    characters are escaped. Where there is no screen it prints plain lines, whatever the environment says
    (FORCE_COLOR, which notebooks and CI set)."""

    def __init__(self, **options: Any):
        stream = options.get("file") or (sys.stderr if options.get("stderr") else sys.stdout)
        plain = {"force_terminal": is_screen(stream), "force_jupyter": False}
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **plain, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        lines = (printable(line, _LONGEST).replace(r"\t", "\t") for line in text.split("\n"))
        return super().render_str("\n".join(lines), **options)
