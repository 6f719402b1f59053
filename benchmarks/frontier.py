"""Accuracy by bytes: our compressed classifications beside published models, as a table and a picture.

    python benchmarks/frontier.py --sst2 RESULT.json [...] [--mnli RESULT.json [...]] --output OUTPUT

RESULT.json is what trained_methods.py wrote. Published numbers are those of published_models.csv, each its
source's own claim; megabytes are those of a file of ours (all that the artifact's weights take), and of
others the bytes of float32 parameters, or of parameters at the stated bits, as the file says. An interval of
ours is Wilson's of 95 % over the examples, for the mean of its runs; nothing is said of seeds where a row
has one run. Writes OUTPUT.md and OUTPUT.png; notes.md beside the first RESULT.json, if any, is added.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from about import about
from speed_table import table

from tlc_jax.storage.paths import parse_path
from tlc_jax.studies.picture import annotate_apart, logarithmic_x, save_panels

PUBLISHED = Path(__file__).with_name("published_models.csv")
TASKS = {"sst2": "SST-2", "mnli": "MNLI, matched"}
OURS = "ours"
GROUPS = {
    OURS: {"label": "ours, bytes of the file", "fmt": "o"},
    "development": {"label": "published, bytes of the parameters", "fmt": "D", "color": "C1"},
    "test": {"label": "published, test set", "fmt": "D", "color": "C1", "markerfacecolor": "white"},
}
Line = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A model of one task: accuracies in percent, its ends None where nobody says an interval."""

    name: str
    megabytes: float
    accuracy: float
    ends: tuple[float, float] | None
    group: str
    about: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for task in TASKS:
        parser.add_argument(f"--{task}", nargs="+", type=Path, default=[], metavar="RESULT.json")
    parser.add_argument("--output", type=Path, required=True, help="without the ending")
    args = parser.parse_args()
    files: dict[str, list[Path]] = {task: getattr(args, task) for task in TASKS if getattr(args, task)}
    if not files:
        parser.error("give a RESULT.json of a task")
    results = {task: [json.loads(path.read_text("utf-8")) for path in paths] for task, paths in files.items()}
    points = {task: [point for each in found for point in ours(each)] for task, found in results.items()}
    others = {task: published(task) for task in points}
    panels = [
        (functools.partial(draw, task=task), [{"point": each} for each in (*points[task], *others[task])])
        for task in points
    ]
    save_panels(panels, parse_path(f"{args.output}.png"))
    [first, *_] = (path for paths in files.values() for path in paths)
    notes = first.with_name("notes.md")
    said = [notes.read_text("utf-8").strip()] if notes.exists() else []
    parts = [
        "# Accuracy by bytes",
        f"    {about()['command']}",
        f"![accuracy by bytes]({args.output.name}.png)",
    ]
    text = [
        *parts,
        *(part for task in points for part in section(task, results[task], points[task], others[task])),
        *said,
    ]
    args.output.with_suffix(".md").write_text("\n\n".join(text) + "\n", encoding="utf-8")


def ours(result: dict[str, Any]) -> list[Point]:
    """The uncompressed runs, and every artifact; what only a round keeps is no file."""
    examples, rows = result["examples"], [row for row in result["rows"] if "file_bytes" in row]
    dense = {
        "method": "uncompressed",
        "accuracy": result["dense"],
        "file_bytes": [max(row["float32_bytes"] for row in rows)],  # some methods leave tokens out
    }
    return [point_of(row, examples, "float32" if row is dense else "file") for row in (dense, *rows)]


def point_of(row: dict[str, Any], examples: int, bytes_of: str) -> Point:
    mean = float(np.mean(row["accuracy"]))
    ends = scipy.stats.binomtest(round(mean * examples), examples).proportion_ci(method="wilson")
    runs = len(row["accuracy"])
    return Point(
        row["method"],
        float(np.mean(row["file_bytes"])) / 1e6,
        100 * mean,
        (100 * ends.low, 100 * ends.high),
        OURS,
        f"{bytes_of}, development, {runs} run{'s' if runs > 1 else ''}",
    )


def published(task: str) -> list[Point]:
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[task]]
    return [
        Point(
            row["model"],
            float(row["megabytes"]),
            float(row[task]),
            None,
            row[f"{task} set"],
            f"{row['bytes of']}, {row[f'{task} set']}; {row['source']}",
        )
        for row in rows
    ]


def section(
    task: str, results: Sequence[Line], points: Sequence[Point], others: Sequence[Point]
) -> list[str]:
    """A task: how its numbers were made, and all points, the smallest first."""
    made = "; ".join(f"commit {each['commit']}, {each['date']}, {each['machine']}" for each in results)
    [examples] = {each["examples"] for each in results}
    text = f"Ours are accuracies on {examples:,} examples ({made}), others what their sources say."
    rows = [
        (
            f"{point.megabytes:.3g}",
            f"**{point.name}**" if point in points else point.name,
            f"{point.accuracy:.1f}" + (f" [{point.ends[0]:.1f}, {point.ends[1]:.1f}]" if point.ends else ""),
            point.about,
        )
        for point in sorted([*points, *others], key=lambda point: point.megabytes)
    ]
    return [f"## {TASKS[task]}", textwrap.fill(text, 120), table(("MB", "model", "accuracy, %", "of"), rows)]


def draw(axes: Any, rows: Sequence[Line], task: str) -> None:
    everything: list[Point] = [row["point"] for row in rows]
    for group, style in GROUPS.items():
        points = [point for point in everything if point.group == group]
        means = np.array([point.accuracy for point in points])
        ends = np.array([point.ends or (point.accuracy, point.accuracy) for point in points]).reshape(-1, 2)
        errors = np.abs(ends - means[:, None]).T if group == OURS else None
        megabytes = [point.megabytes for point in points]
        axes.errorbar(megabytes, means, yerr=errors, markersize=4, capsize=2, **style)
    logarithmic_x(axes)
    axes.set(xlabel="MB", ylabel="accuracy, %", title=TASKS[task])
    axes.legend(loc="lower right", fontsize=8)
    axes.figure.draw_without_rendering()
    annotate_apart(axes, [((each.megabytes, each.accuracy), each.name, "0.3") for each in everything])


if __name__ == "__main__":
    main()
