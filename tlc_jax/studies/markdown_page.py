"""A page of Markdown about a study: its exhibits, drawn from the store, and how the store was made."""

from __future__ import annotations

import shlex
from typing import Any

from rich.table import Table

from tlc_jax.core.invocation import command
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath, write_bytes
from tlc_jax.storage.untrusted import read_text
from tlc_jax.studies.exhibit_pictures import save_pictures
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.failed_items import failures
from tlc_jax.studies.how_made import config_of, how_made
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.study_command import study_command

NOTES = "notes.md"
"""What its author says of a study, in its folder; a part of the page."""


def write_page(study: AnyPath, path: AnyPath) -> None:
    """Write the page to `path`, and its pictures beside it with the suffix .png."""
    store = ItemStore(study)
    shown = [(exhibit, rows) for exhibit in EXHIBITS if (rows := exhibit.rows(store))]
    pictures = save_pictures(shown, path.with_suffix(".png"))
    title = path.name.removesuffix(path.suffix).replace("_", " ")
    again = f"{command('report')} study {shlex.quote(str(study))} --output {shlex.quote(str(path))}"
    exhibits = [_exhibit(exhibit, rows, pictures.get(exhibit.name)) for exhibit, rows in shown]
    parts = [
        f"# {title[:1].upper()}{title[1:]}",
        f"    {again}",
        *([f"![{title}]({pictures[''].name})"] if "" in pictures else []),
        *exhibits,
        *([_corrected()] if any(", p = " in text for text in exhibits) else []),
        *(["## Failed", *(f"* {text}" for text in failures(store))] if failures(store) else []),
        *([read_text(study / NOTES).strip()] if (study / NOTES).is_file() else []),
        _made(study, store),
    ]
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())


def _corrected() -> str:
    return (
        "P-values on this page are corrected (Holm) for the comparisons of their own part. "
        f"`{command('report')} claims` corrects for all comparisons of the study and tests some claims with "
        "a margin, so verdicts there may differ."
    )


def _exhibit(exhibit: Exhibit, rows: list[Row], picture: AnyPath | None) -> str:
    parts = [
        f"## {exhibit.name[:1].upper()}{exhibit.name[1:]}",
        *([f"![{exhibit.name}]({picture.name})"] if picture else []),
        as_markdown(exhibit.table(rows)),
        "\n".join(f"* {sentence}" for sentence in exhibit.sentences(rows)),
    ]
    return "\n\n".join(parts)


def as_markdown(table: Table) -> str:
    """A table for a terminal as Markdown, with its title before it and its caption behind it."""
    lines = [f"{table.title}:", ""] if table.title else []
    lines.append(_line([str(column.header) for column in table.columns]))
    lines.append(_line(["---:" if column.justify == "right" else "---" for column in table.columns]))
    lines += [_line(list(cells)) for cells in zip(*(column.cells for column in table.columns), strict=True)]
    return "\n".join([*lines, *(["", f"{table.caption}."] if table.caption else [])])


def _line(cells: list[Any]) -> str:
    return "| " + " | ".join(printable(str(cell)).replace("|", "\\|") for cell in cells) + " |"


def _made(study: AnyPath, store: ItemStore) -> str:
    lines = how_made(store).items()
    table = "\n".join(f"| {name} | {printable(text, 500)} |" for name, text in lines)
    return f"## How it was made\n\n    {study_command(config_of(study))}\n\n| | |\n|---|---|\n{table}"
