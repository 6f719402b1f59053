"""What a person sees while something takes long."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tlc_jax.core import progress
from tlc_jax.core.progress import stage


@pytest.mark.parametrize("terminal", [False, True])
def test_brackets_of_a_path_are_no_markup(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY", -1.0)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, record=True)
    with stage(console, "Reading a[/]b[red]c", 10, "lines") as advance:
        advance(5)
    said = console.export_text()
    assert "Reading a[/]b[red]c: 5 lines in 0 s" in said
    assert ("Reading a[/]b[red]c: 5 of 10 lines, 0 s left\n" in said) != terminal, "a terminal has a bar"
