"""Untrusted text, made safe to print."""

from __future__ import annotations

import unicodedata


def printable(text: object, most: int = 200) -> str:
    """The text with control characters, terminal escapes and bidirectional marks escaped, cut to `most`
    characters."""
    whole = str(text)
    shown = "".join(
        char if unicodedata.category(char) not in _UNPRINTABLE else char.encode("unicode_escape").decode()
        for char in whole[:most]
    )
    return shown if len(whole) <= most else f"{shown[: most - 3]}..."


# control, format (bidirectional marks among them), half surrogates, line and paragraph separators
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
