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


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def three_digits(number: float) -> str:
    """The number to three digits, with an exponent only where it is tiny or huge: 0.0123, 948, 3,020."""
    return f"{float(f'{number:.3g}'):,.15g}"


def first_of(names: Collection[str], most: int = 10) -> str:
    """The first names, made printable, and the number of the others."""
    shown = ", ".join(printable(name, 80) for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


# control, format (bidirectional marks among them), half surrogates, line and paragraph separators
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
