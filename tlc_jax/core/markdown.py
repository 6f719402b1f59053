"""Markdown of text that anybody may have written: names of files, labels, licences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tlc_jax.core.printable import printable

# an underscore within a word and most colons are plain text; GitHub links addresses that stand alone
_SPECIAL = re.compile(r"[\\`*\[\]<>&|~$#!^=]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.", re.IGNORECASE)


def escaped(text: object, most: int = 200) -> str:
    """The text as one line that is shown as it is: no markup, link, picture or HTML; cut to `most`
    characters."""
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", printable(text, most))


def table(rows: Iterable[Sequence[str]], heading: Sequence[str] = ("", "")) -> str:
    """A table of cells that are Markdown already."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
