"""Families of sizes: those that share their width, and those that share their depth (paper 3, figures 3 and
4: depths of width 768, widths of depth 12)."""

from __future__ import annotations

import re
from collections.abc import Sequence

FEWEST = 3
"""Sizes of a family."""


def shape_of(size: str) -> tuple[int, int]:
    """Depth and width. The name of a given checkpoint may have more behind them, as 6x384-trimmed does."""
    shape = re.match(r"(\d+)x(\d+)", size)
    assert shape is not None, f"{size} is DEPTHxWIDTH"
    return int(shape[1]), int(shape[2])


def families(sizes: Sequence[str]) -> dict[str, list[str]]:
    """The sizes by what they share, depths before widths; all of them as one family, unless each shares its
    width or its depth with two others at least."""
    by_name: dict[str, list[str]] = {}
    for size in sizes:
        depth, width = shape_of(size)
        by_name.setdefault(f"depths of width {width}", []).append(size)
        by_name.setdefault(f"widths of depth {depth}", []).append(size)
    large = {name: family for name, family in sorted(by_name.items()) if len(family) >= FEWEST}
    covered = {size for family in large.values() for size in family}
    return large if covered == set(sizes) else {"all sizes": list(sizes)}
