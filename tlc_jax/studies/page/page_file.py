"""Write the page of plans, studies and runs as one file."""

from __future__ import annotations

import datetime
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import counted, first_of, printable
from tlc_jax.runs.starts import read_starts
from tlc_jax.storage.paths import AnyPath, parse_path, write_bytes
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.untrusted import read_text
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.failed_items import failures
from tlc_jax.studies.how_made import config_of, how_made
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.items import items_of
from tlc_jax.studies.markdown_page import NOTES
from tlc_jax.studies.page.learning_points import Training
from tlc_jax.studies.page.page_body import Said, part_section
from tlc_jax.studies.page.page_html import add, document
from tlc_jax.studies.page.page_schema import SCHEMA, Page, Part
from tlc_jax.studies.page.page_sources import Sources, links_to, read_sources
from tlc_jax.studies.page.plan_part import (
    obtained_rows,
    obtained_sentences,
    obtained_table,
    plan_facts,
    plan_part,
)
from tlc_jax.studies.page.runs_part import answer_of_runs, runs_part
from tlc_jax.studies.page.study_part import study_part
from tlc_jax.studies.picture import COLOURS
from tlc_jax.studies.plan_record import read_plan
from tlc_jax.studies.plan_text import answer, plan_table
from tlc_jax.studies.study_command import study_command

LARGEST = 1_000_000
"""Bytes of a page."""
_NAMED = 20
"""Folders in the command of a page, at most."""
_PICTURES = (".png", ".pdf", ".svg")
_TRIES = ((4000, 80_000), (1500, 15_000), (400, 15_000), (400, None))
"""(points of all curves, characters of a picture's SVG) at most, None without pictures: the first with which
a page is small enough. A picture of more characters is a PNG."""


@dataclass(frozen=True)
class Written:
    """The HTML of a page as a file and, under a version, as it is served, and the answer of each part."""

    text: str
    served: str
    version: str
    answers: Sequence[str]


def write_report(folders: Sequence[str], output: str) -> None:
    """Write the page, and print the answer of each part."""
    path = check_page(output)
    page = write_page(folders, path)
    for text in page.answers:
        print(text)
    print(f"page: {output}, {len(page.text.encode()) / 1000:,.0f} kB")


def write_page(folders: Sequence[str], path: AnyPath) -> Written:
    """Write the page of these folders at a path that ends in .html."""
    page = page_text(read_sources(folders), path)
    write_bytes(path, page.text.encode())
    return page


def check_page(output: str) -> AnyPath:
    """The path of a page that can be written there."""
    path = parse_path(output)
    if path.suffix.lower() in _PICTURES:
        raise UserError(
            f"--output {output} is a picture: {command('report curves')} draws the curves of runs"
        )
    if path.suffix.lower() != ".html":
        raise UserError(f"--output {output} is no page: end it in .html")
    check_writable(path, "--output")
    return path


def page_text(sources: Sources, path: AnyPath) -> Written:
    """The page at `path`. UserError where it would be too large with the fewest points and without
    pictures."""
    size = 0
    for most, largest in _TRIES:
        page = _page(sources, path, most, largest)
        if (size := len(page.text.encode())) < LARGEST:
            return page
    raise UserError(
        f"the page would have {size / 1e6:.1f} MB, more than {LARGEST / 1e6:g} MB: report fewer folders "
        "together"
    )


def _page(sources: Sources, path: AnyPath, most: int, largest: int | None) -> Written:
    count = len(sources.plans) + len(sources.studies) + bool(sources.runs)
    gathered = [_plan(folder, sources.runs) for folder in sources.plans]
    gathered += [_study(study, path, most // count) for study in sources.studies]
    gathered += [_runs(sources, path, most // count)] if sources.runs else []
    parts = [part for part, _, _ in gathered]
    title = ", ".join(part["name"] for part in parts)
    body = [
        part_section(part, said, trainings, number, alone=count == 1, largest=largest)
        for number, (part, trainings, said) in enumerate(gathered)
    ]
    if count > 1:
        heading = Element("h1")
        heading.text = title
        body.insert(0, heading)
    body.append(_footer(sources, pictures=largest is not None))
    page = Page(schema=SCHEMA, colours=COLOURS, parts=parts)
    text = document(title, page, body)
    version = hashlib.sha256(text.encode()).hexdigest()
    served = document(title, page, body, version)
    return Written(text, served, version, [" ".join(filter(None, said.answer)) for _, _, said in gathered])


Gathered = tuple[Part, list[Training], Said]


def _study(study: AnyPath, path: AnyPath, most: int) -> Gathered:
    store, config = ItemStore(study), config_of(study)
    roots = {item.name: study / "runs" / item.name for item in items_of(config) if item.name == item.run}
    links = links_to(roots, path)
    part, trainings = study_part(study, links, most)
    notes = read_text(study / NOTES).strip() if (study / NOTES).is_file() else ""
    facts = how_made(store)
    shown = [(exhibit, rows) for exhibit in EXHIBITS if (rows := exhibit.rows(store))]
    said = Said(
        answer=_answer(part, _nothing(store, config, shown)),
        summary=_summary(part, facts),
        shown=shown,
        remarks=("Left out", failures(store)),
        notes=notes,
        command=study_command(config),
        facts=[*facts.items(), ("folder", str(study))],
        links=links,
    )
    return part, trainings, said


def _plan(folder: AnyPath, runs: Sequence[AnyPath]) -> Gathered:
    plan = read_plan(folder)
    part = plan_part(plan, folder.name)
    obtained = obtained_rows(plan, folder, runs)
    tables = [("The plan", [answer(plan)], plan_table(plan))]
    if obtained:
        said = obtained_sentences(obtained)
        tables.insert(0, ("Predicted and obtained", said, obtained_table(obtained)))
    return (
        part,
        [],
        Said(
            answer=_answer(part),
            summary=printable(f"Plan · {counted(len(plan.sizes), 'size')} · {plan.device}", 300),
            tables=tables,
            remarks=("What it does not cover", [printable(note, 1000) for note in plan.notes]),
            command="\n".join(printable(line, 1000) for line in plan.commands),
            facts=[*plan_facts(plan), ("folder", str(folder))],
        ),
    )


def _answer(part: Part, nothing: str = "No model is finished yet.") -> tuple[str, str, str]:
    """The sentences with which the page opens; `nothing` where there is no choice."""
    time, limit = part["start"]
    fitting = [
        choice
        for choice in (part["choices"][time] if part["choices"] else [])
        if not part["limits"] or choice["limit"] <= part["limits"][limit]["value"]
    ]
    if not fitting:
        return nothing, "", ""
    choice = fitting[-1]
    label = part["limits"][limit]["label"] if part["limits"] else ""
    return choice["head"].replace("{limit}", label), choice["value"], choice["against"]


def _nothing(store: ItemStore, config: StudyConfig, shown: Sequence[Any]) -> str:
    """What is said of a study in which there is nothing to choose from."""
    if shown and all(store.has(item.name) for item in items_of(config)):
        return "This study has no models to choose from after a time of training: its results are below."
    return "No model is finished yet." + (" What is measured so far is below." if shown else "")


def _summary(part: Part, facts: dict[str, str]) -> str:
    seeds = facts.get("seeds of training") or facts.get("seeds of finetuning", "")
    words = [
        "Study",
        counted(len(part["models"]), "model"),
        f"seed{'s' if ',' in seeds else ''} {seeds}" if seeds else "",
        facts.get("devices", ""),
        facts.get("dates", ""),
    ]
    return printable(" · ".join(filter(None, words)), 300)


def _runs(sources: Sources, path: AnyPath, most: int) -> Gathered:
    names = sources.names_of_runs()
    links = links_to(dict(zip(names, sources.runs, strict=True)), path)
    part, trainings = runs_part(sources.runs, names, links, most)
    by_fact = dict[str, list[str]]()
    for name, root in zip(names, sources.runs, strict=True):
        if fact := _start_of(root):
            by_fact.setdefault(fact, []).append(name)
    facts = [(first_of(together, 3), fact) for fact, together in by_fact.items()]
    return (
        part,
        trainings,
        Said(
            answer=answer_of_runs(trainings),
            summary=counted(len(names), "run"),
            command=part["commands"][0] if len(names) == 1 else "",
            facts=facts,
            links=links,
        ),
    )


def _start_of(root: AnyPath) -> str:
    """The date, devices and versions of the first start of a run."""
    for start in read_starts(RunDir(root)):
        devices = start.get("devices")
        devices = devices if isinstance(devices, list) else []
        packages = start.get("packages")
        packages = packages if isinstance(packages, dict) else {}
        kinds = ", ".join(f"{devices.count(kind)} x {kind}" for kind in dict.fromkeys(map(str, devices)))
        versions = f"python {start.get('python')}, jax {packages.get('jax')}"
        return (
            f"{str(start.get('date'))[:10]}; {kinds or 'unknown device'}; {versions}; {start.get('platform')}"
        )
    return ""


def _footer(sources: Sources, pictures: bool) -> Element:
    footer = Element("footer")
    folders = [shlex.quote(str(path)) for path in [*sources.plans, *sources.studies, *sources.runs]]
    more = f" and {counted(len(folders) - _NAMED, 'folder')} more" if len(folders) > _NAMED else ""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    add(footer, "p", f"Written {now} by")
    add(footer, "pre", printable(f"{command('report')} {' '.join(folders[:_NAMED])}{more}", 2000))
    if not pictures:
        add(footer, "p", "Pictures for paper are left out: with them the page would be larger than 1 MB.")
    add(
        footer,
        "noscript",
        "Plots that move, and sorting of tables, need JavaScript; pictures and tables are here without it.",
    )
    return footer
