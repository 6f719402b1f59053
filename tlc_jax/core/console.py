"""A console on which strangers' names and texts cannot move the cursor, change colours or hide anything."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from tlc_jax.core.printable import printable

_LONGEST = 100_000


class SafeConsole(Console):
    """Every string that is printed, in tables too, is what it is: `[brackets]` and `:names:` in it mean
    nothing, and its control characters are spelled out."""

    def __init__(self, **options: Any):
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        lines = (printable(line, _LONGEST).replace(r"\t", "\t") for line in text.split("\n"))
        return super().render_str("\n".join(lines), **options)
