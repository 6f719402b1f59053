"""Untrusted text, made safe to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection


def printable(text: object, most: int = 200) -> str:
    """The text with control characters, terminal escapes and bidirectional marks escaped, cut to `most`
    characters."""
    whole = str(text)
    shown = "".join(
        char if unicodedata.category(char) not in _UNPRINTABLE else char.encode("unicode_escape").decode()
        for char in whole[:most]
    )
    return shown if len(whole) <= most else f"{shown[: most - 3]}..."


def first_of(names: Collection[str]) -> str:
    """The first few names, and the number of the others."""
    more = f" and {len(names) - _FEW:,} more" if len(names) > _FEW else ""
    return ", ".join(list(names)[:_FEW]) + more


_FEW = 5
# control, format (bidirectional marks among them), half surrogates, line and paragraph separators
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
