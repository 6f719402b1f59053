"""Strangers' texts on a console: nothing in them is an instruction."""

from __future__ import annotations

import io
import sys

import pytest
from rich.table import Table

from tlc_jax.core.console import SafeConsole
from tlc_jax.core.progress import stage


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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_notebook_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of its cells write to a terminal, whose lines it cannot draw again; notebooks and CI ask
    for colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert SafeConsole(file=Terminal()).is_terminal
    assert not SafeConsole(file=io.StringIO()).is_terminal, "a log"
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    console = SafeConsole(file=Terminal())
    assert not console.is_terminal
    with stage(console, "reading", 10, "lines") as advance:
        advance(10)
    assert console.file.getvalue() == "reading: 10 lines in 0 s\n"  # type: ignore[attr-defined]
