"""Strangers' texts on a console: nothing in them is an instruction."""

from __future__ import annotations

import io

from rich.table import Table

from tlc_jax.core.console import SafeConsole


def printed(thing: object) -> str:
    output = io.StringIO()
    SafeConsole(file=output, force_terminal=True, width=200, color_system=None).print(thing)
    return output.getvalue()


def test_escapes_and_markup_are_text() -> None:
    assert (
        printed("a\x1b[31mb\x07 [bold]c[/] :smile: \u202ed")
        == "a\\x1b[31mb\\x07 [bold]c[/] :smile: \\u202ed\n"
    )
    assert printed("two\nlines\tand a tab").splitlines()[0] == "two"


def test_cells_of_a_table_too() -> None:
    table = Table("name")
    table.add_row("x\x1b]0;title\x07[red]y")
    assert "x\\x1b]0;title\\x07[red]y" in printed(table)
