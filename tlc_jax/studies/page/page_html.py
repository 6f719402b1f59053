"""The page as HTML: everything that is said, as text and tables, and the JSON of what its script draws.

All text is set as text of elements, never as markup. The page's policy forbids every request, and runs no
script but the two that are in it.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from rich.table import Table

from tlc_jax.core.printable import printable
from tlc_jax.studies.page.page_schema import Page

_FILES = importlib.resources.files("tlc_jax.studies.page")
SCRIPTS = ("drawing.js", "tables.js", "page.js")
"""One after the other they are the page's script."""
_MOST_ROWS = 200  # of a table


def document(title: str, page: Page, body: Sequence[Element], version: str = "") -> str:
    """The text of the HTML file. With a version it is one to be served, and asks its server for another."""
    live = bool(version)
    scripts = [_read("plot/plot.js"), "".join(map(_read, SCRIPTS)), *([_read("live.js")] if live else [])]
    html = Element("html", {"lang": "en", "class": "static-only"})
    head = SubElement(html, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    policy = {"http-equiv": "Content-Security-Policy", "content": policy_of(scripts, live)}
    SubElement(head, "meta", policy)
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "meta", {"name": "referrer", "content": "no-referrer"})
    if live:
        SubElement(head, "meta", {"name": "version", "content": version})
    add(head, "title", title)
    SubElement(head, "style").text = _read("page.css")
    main = SubElement(SubElement(html, "body"), "main")
    main.extend(body)
    SubElement(html[1], "script", {"type": "application/json", "id": "data"}).text = script_json(page)
    for script in scripts:
        SubElement(html[1], "script").text = script
    return "<!DOCTYPE html>\n" + ElementTree.tostring(html, encoding="unicode", method="html") + "\n"


def policy_of(scripts: Iterable[str], live: bool) -> str:
    """The Content-Security-Policy of a page with these scripts."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    asked = "connect-src 'self'; " if live else ""
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; {asked}"
        "base-uri 'none'; form-action 'none'"
    )


def script_json(page: Page) -> str:
    """JSON that may stand in a script element: it cannot end it, nor begin a comment in it."""
    text = json.dumps(page, allow_nan=False, separators=(",", ":"))  # all but ASCII is escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """Append an element with text; `class_` is its class."""
    element = SubElement(
        parent, tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    )
    element.text = text
    return element


def add_table(parent: Element, table: Table) -> None:
    """A table for a terminal, as one that can be sorted, closed at first; its first rows, if it has many."""
    details = add(parent, "details")
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    add(details, "summary", f"Table: {table.title}" if table.title else "Table")
    scroll = add(
        details, "div", class_="scroll", tabindex="0", role="region", aria_label=str(table.title or "table")
    )
    element = add(scroll, "table", class_="rows")
    head = add(add(element, "thead"), "tr")
    classes = [{"class_": "number"} if column.justify == "right" else {} for column in table.columns]
    for column, kind in zip(table.columns, classes, strict=True):
        add(head, "th", printable(column.header), scope="col", **kind)
    body = add(element, "tbody")
    for cells in rows[:_MOST_ROWS]:
        line = add(body, "tr")
        for cell, kind in zip(cells, classes, strict=True):
            add(line, "td", printable(cell), **kind)
    if table.caption:
        add(details, "p", f"{table.caption}.", class_="note")
    if len(rows) > _MOST_ROWS:
        add(details, "p", f"The first {_MOST_ROWS} of {len(rows):,} rows; report study writes all.")


def add_facts(parent: Element, facts: Iterable[tuple[str, str]]) -> None:
    """A table of names and texts."""
    body = add(add(parent, "table", class_="facts"), "tbody")
    for name, text in facts:
        line = add(body, "tr")
        add(line, "th", name, scope="row")
        add(line, "td", printable(text, 500))


def _read(name: str) -> str:
    return _FILES.joinpath(name).read_text(encoding="utf-8")
