"""The page that holds models of studies, by the bytes of their files, against published ones
(`published_models.py`): those of SST-2 and MNLI, on the same axes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import counted
from tlc_jax.storage.paths import AnyPath, parse_path, write_bytes
from tlc_jax.storage.run_directory import STUDY
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.as_many_bytes import frontier
from tlc_jax.studies.how_made import config_of, how_made
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.markdown_page import as_markdown
from tlc_jax.studies.measured import metric_of
from tlc_jax.studies.model_files import file_rows, files_of
from tlc_jax.studies.picture import Rows, plain, save_lines
from tlc_jax.studies.published_models import PUBLISHED, TASKS
from tlc_jax.studies.statistics import interval
from tlc_jax.studies.study_command import study_command

if TYPE_CHECKING:  # slow to import
    from matplotlib.axes import Axes

_MEGABYTE = 1e6
_SETS = ("validation", "validation_matched")
"""The development sets on which published models are reported."""
_OURS = "file"
_SAID = (
    "Bytes of ours are those of the whole file of weights, and an interval is over seeds of the finetuning."
)


@dataclass(frozen=True)
class _Study:
    folder: AnyPath
    store: ItemStore
    task: str


def write_frontier(workdirs: Sequence[str], output: str) -> None:
    """Write the page of these studies. UserError names a folder without one, or one of another task."""
    path = parse_path(output)
    if path.suffix.lower() != ".md":
        raise UserError(f"--output {output} is no page: end it in .md")
    check_writable(path, "--output")
    studies = [_study(folder) for folder in map(parse_path, workdirs)]
    rows = [row for study in studies for row in frontier_rows(study.store, study.task, study.folder.name)]
    again = f"{command('report')} frontier {shlex.join(workdirs)} --output {shlex.quote(output)}"
    write_frontier_page(path, rows, again, _SAID, [_made(study) for study in studies])
    print(f"{counted(len(rows), 'model')} of studies beside published ones in {output}, and {path.stem}.png")


def write_frontier_page(path: AnyPath, rows: Rows, again: str, said: str, made: Sequence[str]) -> None:
    """Write the page and the picture of rows such as `frontier_rows` gives, beside the published models:
    `again` is the command, `said` what is said of our numbers, and `made` are the parts at the end."""
    picture = path.with_suffix(".png")
    panels = {task: [row for row in (*published_rows(task), *rows) if row["task"] == task] for task in TASKS}
    save_lines([[(_draw, panel) for panel in panels.values()]], picture)
    parts = [
        "# Accuracy by bytes, beside what is published",
        f"    {again}",
        f"![accuracy by megabytes]({picture.name})",
        f"{said} Published models are as their sources state them, and were not measured here: their "
        "megabytes are parameters in float32 or at the stated bits, so a file of them is larger. "
        "Development sets were seen by whoever chose among models on them; ours are chosen on a part of "
        "the training set.",
    ]
    for task, panel in panels.items():
        parts += [f"## {TASKS[task]}", as_markdown(_table(panel))]
    write_bytes(path, ("\n\n".join([*parts, *made]) + "\n").encode())


def _study(folder: AnyPath) -> _Study:
    if not (folder / STUDY).is_file():
        raise UserError(f"{folder} holds no study: give folders of studies")
    finetune = config_of(folder).finetune
    name = getattr(finetune and finetune.data, "name", "no labelled data")
    if name not in TASKS:
        raise UserError(
            f"{folder} is a study of {name}, and published models are of {' and '.join(TASKS)}: leave it out"
        )
    return _Study(folder, ItemStore(folder), name)


def frontier_rows(store: ItemStore, task: str, study: str) -> Rows:
    """The best models of each size of a study for their bytes, chosen on its tuning set."""
    rows = [row for row in file_rows(store) if row["role"] == "tuning" or row["set"] in _SETS]
    models, best = files_of(rows), Rows()
    for size in dict.fromkeys(model.size for model in models):
        mine = [model for model in models if model.size == size]
        metric = metric_of(mine[0].reported.rows[0])
        for model in frontier(mine, metric, lambda each: each.tuning.mean, lambda each: each.bytes):
            values = 100 * model.reported.values
            best.append(
                {
                    "task": task,
                    "number": None,
                    "model": f"{study}: {model}",
                    "series": f"{study}: {size}",
                    "megabytes": model.bytes / _MEGABYTE,
                    "stored": _OURS,
                    "percent": float(values.mean()),
                    "interval": interval(values),
                    "set": "development",
                    "source": counted(len(values), "seed"),
                }
            )
    return best


def published_rows(task: str) -> Rows:
    """The published models with an accuracy on this task. Each has its `number` in the picture."""
    return [
        {
            "task": task,
            "number": number,
            "model": each.model,
            "series": None,
            "megabytes": each.megabytes,
            "stored": each.stored,
            "percent": accuracy.percent,
            "interval": None,
            "set": accuracy.set,
            "source": each.source,
        }
        for number, each in enumerate(sorted(PUBLISHED, key=lambda each: each.megabytes), 1)
        if (accuracy := each.on(task)) is not None
    ]


def _table(rows: Rows) -> Table:
    table = Table()
    table.add_column("no.", justify="right")
    table.add_column("MB", justify="right")
    table.add_column("model")
    table.add_column("accuracy", justify="right")
    for column in ("of", "bytes are of", "source"):
        table.add_column(column)
    for row in sorted(rows, key=lambda row: row["megabytes"]):
        ends = "" if row["interval"] is None else " [{:.1f}, {:.1f}]".format(*row["interval"])
        name = row["model"] if row["series"] is None else f"**{row['model']}**"
        table.add_row(
            *(str(row["number"] or ""), f"{row['megabytes']:.3g}", name, f"{row['percent']:.1f}{ends}"),
            *(row["set"], row["stored"], row["source"]),
        )
    return table


def _draw(axes: Axes, rows: Rows) -> None:
    published = [row for row in rows if row["series"] is None]
    for stored, marker in (("float32", "s"), ("stated bits", "o")):
        for each_set, face in (("development", "grey"), ("test", "none")):
            points = [row for row in published if (row["stored"], row["set"]) == (stored, each_set)]
            axes.scatter(
                [row["megabytes"] for row in points],
                [row["percent"] for row in points],
                s=18,
                marker=marker,
                facecolors=face,
                edgecolors="grey",
                label=f"published (no. of the table), {stored}, {each_set} set" if points else None,
            )
    for row in published:
        at = (row["megabytes"], row["percent"])
        axes.annotate(str(row["number"]), at, xytext=(3, 3), textcoords="offset points", fontsize=6)
    for series in dict.fromkeys(row["series"] for row in rows if row["series"] is not None):
        mine = [row for row in rows if row["series"] == series]
        means = np.array([row["percent"] for row in mine])
        low, high = np.array([row["interval"] or (row["percent"],) * 2 for row in mine]).T
        axes.errorbar(
            [row["megabytes"] for row in mine],
            means,
            yerr=[means - low, high - means],
            fmt="D-",
            markersize=4,
            capsize=2,
            label=plain(series),
        )
    axes.set(
        xscale="log",
        xlabel="megabytes (ours: of the file)",
        ylabel="accuracy in percent",
        title=TASKS[rows[0]["task"]],
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=6, loc="lower right")


def _made(study: _Study) -> str:
    lines = "\n".join(f"| {name} | {text} |" for name, text in how_made(study.store).items())
    made = study_command(config_of(study.folder))
    return f"## How {study.folder.name} was made\n\n    {made}\n\n| | |\n|---|---|\n{lines}"
