"""A console on which untrusted text cannot move the cursor, change colours or hide anything."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from tlc_jax.core.printable import printable

_LONGEST = 100_000


class SafeConsole(Console):
    """Prints strings literally, in tables too: `[brackets]` and `:names:` have no meaning, and control
    characters are escaped."""

    def __init__(self, **options: Any):
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        lines = (printable(line, _LONGEST).replace(r"\t", "\t") for line in text.split("\n"))
        return super().render_str("\n".join(lines), **options)
