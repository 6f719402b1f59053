"""What an exhibit is: rows from a study's store, and what is made of them: a table, sentences, a plot, and
findings about claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.item_store import ItemStore, Row

if TYPE_CHECKING:  # slow to import
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Exhibit:
    """A figure or table. `rows` is empty for a store that has nothing for it; all else is made of rows.
    `findings` are those about some of its `claims`. `panels` are the rows of each of its plots, by line of
    plots; an exhibit with more than one plot has a picture of its own."""

    name: str
    rows: Callable[[ItemStore], list[Row]]
    table: Callable[[list[Row]], Table]
    sentences: Callable[[list[Row]], list[str]]
    draw: Callable[["Axes", list[Row]], None]
    claims: tuple[Claim, ...] = ()
    findings: Callable[[list[Row]], list[Finding]] = field(default=lambda rows: [])
    panels: Callable[[list[Row]], list[list[list[Row]]]] = field(default=lambda rows: [[rows]])
