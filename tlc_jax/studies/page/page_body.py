"""What the page says, as elements: of each study or group of runs the answer, the plots, what its exhibits
say, and where it ran."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markdown_it import MarkdownIt
from rich.table import Table

from tlc_jax.core.printable import printable
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import Row
from tlc_jax.studies.page.learning_points import Training
from tlc_jax.studies.page.page_html import add, add_facts, add_table
from tlc_jax.studies.page.page_schema import Part
from tlc_jax.studies.page.page_words import typeset
from tlc_jax.studies.page.static_picture import curves_picture, exhibit_picture

_FIRST = 5
"""Sentences that are open; many more are one below the other when they are asked for."""
DRAWN = ("equal time", "best size", "equal bytes", "learning curves")
"""Exhibits whose plots the script draws; their pictures are for paper and for readers without scripts."""


@dataclass(frozen=True)
class Said:
    """What the page says of a part besides its plots. `facts` are where it ran; `links` lead to its run
    directories, by their names. `tables` have a name and sentences each, `shown` are the exhibits of a
    study, `remarks` say what is not in it."""

    answer: tuple[str, str, str]
    summary: str
    tables: Sequence[tuple[str, Sequence[str], Table]] = ()
    shown: Sequence[tuple[Exhibit, list[Row]]] = ()
    remarks: tuple[str, Sequence[str]] = ("", ())
    notes: str = ""
    command: str = ""
    facts: Sequence[tuple[str, str]] = ()
    links: dict[str, str] = field(default_factory=dict)


def part_section(
    part: Part, said: Said, trainings: Sequence[Training], number: int, *, alone: bool, largest: int | None
) -> Element:
    """The section of a part, with pictures for paper whose SVG has at most so many characters (None: without
    pictures). `alone`: it is the only one, and its name that of the
    page."""
    section = Element("section", {"class": "part", "aria-label": part["name"]})
    heading = "h1" if alone else "h2"
    header = add(section, "header")
    add(header, heading, part["name"])
    add(header, "p", said.summary)
    answer = add(section, "div", class_="answer", aria_live="polite")
    for name, text in zip(("head", "value", "against"), said.answer, strict=True):
        add(answer, "p", text, class_=name)
    add(section, "div", class_="controls", hidden="hidden")
    plots = add(section, "div", class_="plots")
    if part["files"]:
        _figure(plots, "files", "Bytes against quality", _files_caption(part))
    if len({row["model"] for row in part["dense"] if row["parameters"]}) > 1:
        _figure(plots, "sizes", "Which size for this time", "Models before compression, by their parameters.")
    if part["curves"] and part["axes"]:
        drawn = any(exhibit.name == "learning curves" for exhibit, _ in said.shown)
        _curves(plots, part, trainings, f"p{number}c-", None if drawn else largest)
    for name, sentences, table in said.tables:
        finding = _said(name, sentences)
        add_table(finding, table)
        section.append(finding)
    for index, (exhibit, rows) in enumerate(said.shown):
        section.append(_finding(exhibit, rows, f"p{number}e{index}-", largest))
    _end(section, said)
    return section


def _files_caption(part: Part) -> str:
    return (
        f"Each point is a file, by its value on {part['files_on']}. The stepped line leads through those "
        "that are best for their bytes on the set that choices are made on."
    )


def _figure(parent: Element, kind: str, name: str, caption: str, wide: bool = False) -> Element:
    figure = add(parent, "figure", data_plot=kind, class_="wide" if wide else "half")
    text = add(figure, "figcaption")
    add(text, "h3", name)
    add(text, "p", caption)
    if wide:
        axes = add(figure, "fieldset", class_="axes", hidden="hidden")
        add(axes, "legend", "Over")
    add(figure, "div", class_="live")
    add(figure, "p", class_="note")
    return figure


def _curves(
    parent: Element, part: Part, trainings: Sequence[Training], prefix: str, largest: int | None
) -> None:
    """The figure of learning curves; `prefix` and `largest` are those of its picture."""
    caption = f"{part['metric'][:1].upper()}{part['metric'][1:]} on {part['trained_on']}."
    kinds = {curve["kind"] for curve in part["curves"]}
    if "trunk" in kinds:
        caption += (
            " Lines with points are finished branches; dotted lines are their trunks, at a stable rate."
        )
    if "running" in kinds:
        caption += " Some trainings still run."
    drawn = sum(len(curve["values"]) for curve in part["curves"])
    if drawn < (every := sum(len(training.points) for training in trainings)):
        caption += (
            f" Of {every:,} evaluations {drawn:,} are drawn, spread evenly over the logarithm of the update."
        )
    figure = _figure(parent, "curves", "Learning curves", caption, wide=True)
    if largest is not None:
        picture = add(figure, "div", class_="static replaced")
        picture.append(curves_picture(trainings, part, prefix, largest))


def _finding(exhibit: Exhibit, rows: list[Row], prefix: str, largest: int | None) -> Element:
    """What an exhibit says; `prefix` and `largest` are those of its picture."""
    finding = _said(exhibit.name, exhibit.sentences(rows))
    if largest is not None:
        picture = add(finding, "div", class_="static replaced" if exhibit.name in DRAWN else "static")
        picture.append(exhibit_picture(exhibit, rows, prefix, largest))
    add_table(finding, exhibit.table(rows))
    return finding


def _said(name: str, sentences: Sequence[str]) -> Element:
    """A name with sentences under it, the first of which are open."""
    finding = Element("article", {"class": "finding"})
    add(finding, "h3", f"{name[:1].upper()}{name[1:]}")
    first, others = (
        (sentences, []) if len(sentences) <= _FIRST + 1 else (sentences[:_FIRST], sentences[_FIRST:])
    )
    if first:
        _listed(finding, first)
    if others:
        details = add(finding, "details")
        add(details, "summary", f"{len(others)} more")
        _listed(details, others)
    return finding


def _listed(parent: Element, sentences: Sequence[str]) -> None:
    listed = add(parent, "ul")
    for sentence in sentences:
        add(listed, "li", typeset(sentence))


def _end(section: Element, said: Said) -> None:
    """What was left out, the author's notes, where it ran and how to make it again."""
    ran = add(section, "article", class_="finding")
    if said.remarks[1]:
        section.insert(len(section) - 1, _said(*said.remarks))
    if said.notes:
        ran.append(_notes(said.notes))
    add(ran, "h3", "What ran where")
    if said.command:
        add(ran, "pre", said.command)
    add_facts(ran, said.facts)
    if said.links:
        details = add(ran, "details")
        add(details, "summary", f"Run directories ({len(said.links):,})")
        links = add(details, "ul", class_="links")
        for name, link in said.links.items():
            add(add(links, "li"), "a", printable(name), href=link)


def _notes(text: str) -> Element:
    """The author's Markdown; HTML in it is text, and pictures are left out."""
    markdown = MarkdownIt("commonmark", {"html": False, "xhtmlOut": True}).enable("table").disable("image")
    notes = ElementTree.fromstring(f'<div class="notes">{markdown.render(printable_lines(text))}</div>')
    for heading in notes.iter():
        if heading.tag in ("h1", "h2"):
            heading.tag = "h3"
    return notes


def printable_lines(text: str) -> str:
    """The lines of a text, each made printable."""
    return "\n".join(printable(line, 10_000) for line in text.splitlines())


def relative_link(path: str) -> str:
    """A link to a path that is relative to the page."""
    return urllib.parse.quote(path.replace("\\", "/"))
