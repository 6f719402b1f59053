"""A plan as a part of the page: what is predicted of each size and recipe, and beside it what runs of these
sizes have reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.as_many_bytes import frontier
from tlc_jax.studies.compressed_models import amount_of
from tlc_jax.studies.finished_run import EVALUATED
from tlc_jax.studies.item_store import Row
from tlc_jax.studies.page.page_schema import ChoiceData, DenseData, FileData, Part, columns_of
from tlc_jax.studies.page.page_words import duration, file_size, logarithmic, metric_words, recipe_of
from tlc_jax.studies.plan_record import (
    BestFile,
    FileNumber,
    Plan,
    PlannedRecipe,
    PlannedSize,
    best_files,
    predicted_and_obtained,
)
from tlc_jax.studies.planner import MEGABYTE
from tlc_jax.tasks.metric import NATS_PER_BYTE
from tlc_jax.training.metrics import read_metrics

File = tuple[int, PlannedRecipe]
"""The number of a size, and a recipe of it."""
_SECONDS = 3600  # of an hour


def plan_part(plan: Plan, name: str) -> Part:
    """The part of a plan, whose files are all predicted. It has a single time, and opens with its limit."""
    files = [(number, recipe) for number, size in enumerate(plan.sizes) for recipe in size.recipes]
    asked = MEGABYTE * plan.target_mb
    choices = _with_asked([_choice(each, plan) for each in best_files(plan.sizes)], asked, plan)
    stops = [choice["limit"] for choice in choices]
    return {
        "name": printable(name.replace("_", " ")),
        "models": [printable(size.size) for size in plan.sizes],
        "commands": [""],
        "axes": [],
        "metric": metric_words(plan.metric),
        "higher_is_better": False,
        "logarithmic": logarithmic(plan.metric),
        "trained_on": printable(plan.set),
        "files_on": printable(plan.set),
        "files_metric": metric_words(plan.metric),
        "estimates": "All points are predictions.",
        "gate": None,
        "gate_name": "",
        "files_gate": None,
        "curves": [],
        "dense": [_dense(number, size) for number, size in enumerate(plan.sizes)],
        "files": columns_of(_files(files)),
        "times": [{"value": _SECONDS * plan.hours, "label": duration(_SECONDS * plan.hours)}],
        "limits": [{"value": stop, "label": file_size(stop)} for stop in stops],
        "choices": [choices],
        "start": (0, stops.index(asked)),
    }


def _dense(number: int, size: PlannedSize) -> DenseData:
    return {
        "model": number,
        "time": 0,
        "parameters": size.parameters,
        "value": size.loss,
        "low": size.low,
        "high": size.high,
        "trainings": 0,
        "command": 0,
    }


def _files(files: Sequence[File]) -> list[FileData]:
    # losses are what a law is fitted to, so the lower is the better
    best = set(map(id, frontier(list(files), NATS_PER_BYTE, lambda f: f[1].loss, lambda f: f[1].file_bytes)))
    return [
        {
            "model": file[0],
            "time": 0,
            "recipe": _recipe(file[1]),
            "bytes": file[1].file_bytes,
            "value": file[1].loss,
            "low": file[1].low,
            "high": file[1].high,
            "trainings": 0,
            "estimated": True,
            "candidate": True,
            "frontier": id(file) in best,
            "command": 0,
        }
        for file in files
    ]


def _recipe(recipe: PlannedRecipe) -> str:
    return recipe_of(recipe.bits, amount_of(recipe.sparsity, False, None))


def _choice(each: BestFile, plan: Plan) -> ChoiceData:
    """The lowest predicted loss within a limit of bytes, and that of another size."""
    numbers = [(n, m) for n, size in enumerate(plan.sizes) for m in range(len(size.recipes))]
    size, recipe = plan.sizes[each.best[0]].size, _file(plan, each.best)
    return {
        "limit": each.limit,
        "model": each.best[0],
        "file": numbers.index(each.best),
        "next": None if each.other is None else numbers.index(each.other),
        "head": printable(
            f"For {duration(_SECONDS * plan.hours)} of training and files of up to {{limit}}, train {size} "
            f"and {_kept(recipe)}.",
            500,
        ),
        "value": printable(
            f"Predicted: {_number(recipe)} {metric_words(plan.metric)} on {plan.set}, "
            f"{file_size(recipe.file_bytes)}.",
            500,
        ),
        "against": "" if each.other is None else printable(_against(each.best, each.other, plan), 500),
    }


def _with_asked(choices: list[ChoiceData], asked: float, plan: Plan) -> list[ChoiceData]:
    """The choices, with one for the limit that was asked for, which names all sizes that may be as good."""
    at = max(n for n, choice in enumerate(choices) if choice["limit"] <= asked)
    other = choices[at]["next"]
    named = [size.size for size in plan.sizes for _ in size.recipes][other] if other is not None else None
    more = [each.size for each in plan.candidates if each is not plan.chosen and each.size != named]
    too = f" {' and '.join(more)} may be as good, too." if more else ""
    there: ChoiceData = {
        **choices[at],
        "limit": asked,
        "against": printable(choices[at]["against"] + too, 500),
    }
    kept = at if choices[at]["limit"] == asked else at + 1
    return [*choices[:kept], there, *choices[at + 1 :]]


def _against(best: FileNumber, other: FileNumber, plan: Plan) -> str:
    recipe = _file(plan, other)
    text = (
        f"The best other size is {plan.sizes[other[0]].size}, {_recipe(recipe)}: predicted {_number(recipe)}"
    )
    for each in plan.differences:
        if (each.best, each.other) == (best, other):
            text += f", {each.median:+.4f} [{each.low:+.4f}, {each.high:+.4f}] beside the first"
            if each.low <= 0:
                text += ", which does not say which is better"
    return f"{text}."


def _file(plan: Plan, file: FileNumber) -> PlannedRecipe:
    return plan.sizes[file[0]].recipes[file[1]]


def _kept(recipe: PlannedRecipe) -> str:
    text = _recipe(recipe)
    return "leave it uncompressed" if text == "uncompressed" else f"keep it at {text}"


def _number(recipe: PlannedRecipe) -> str:
    return f"{recipe.loss:.4f} [{recipe.low:.4f}, {recipe.high:.4f}]"


def obtained_rows(plan: Plan, folder: AnyPath, runs: Sequence[AnyPath]) -> list[Row]:
    """What was predicted and obtained of the runs that are given or in the plan's folder, of its sizes."""
    beside = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    rows: list[Row] = []
    for root in dict.fromkeys([*runs, *beside]):
        run = RunDir(root)
        if run.config.is_file() and run.metrics.is_file() and _planned(plan, run):
            rows += [{**row, "run": root.name} for row in predicted_and_obtained(plan, run)]
    return rows


def _planned(plan: Plan, run: RunDir) -> bool:
    """Whether a run is of a size of the plan, and has been evaluated."""
    model, key = run.read_config().model, f"{EVALUATED}{plan.set}/{plan.metric}"
    evaluated = any(
        line["step"] and math.isfinite(line.get(key, math.nan)) for line in read_metrics(run.metrics)
    )
    return evaluated and f"{model.num_layers}x{model.hidden_size}" in {size.size for size in plan.sizes}


def obtained_table(rows: Sequence[Row]) -> Table:
    """Predicted beside obtained."""
    table = Table(title="Predicted and obtained")
    for name in ("run", "size", "quantity"):
        table.add_column(name)
    for name in ("predicted", "obtained", "prediction is off by"):
        table.add_column(name, justify="right")
    for row in rows:
        between = "" if row["low"] is None else f" [{row['low']:.4g}, {row['high']:.4g}]"
        predicted, obtained = f"{_four_digits(row['predicted'])}{between}", _four_digits(row["obtained"])
        table.add_row(
            row["run"], row["size"], row["quantity"], predicted, obtained, f"{100 * row['error']:+.1f} %"
        )
    return table


def _four_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def obtained_sentences(rows: Sequence[Row]) -> list[str]:
    """Whether the interval of each run's prediction has held."""
    texts = list[str]()
    for row in rows:
        if row["inside"] is None:
            continue
        held = "inside its interval" if row["inside"] else "outside of its interval"
        text = (
            f"{row['run']}: {row['size']} was predicted at {row['predicted']:.4f} [{row['low']:.4f}, "
            f"{row['high']:.4f}] and has reached {row['obtained']:.4f}, {held}"
        )
        if not row["complete"]:
            text += "; it was not trained for as long as planned, so this says nothing yet"
        texts.append(f"{text}.")
    return texts


def plan_facts(plan: Plan) -> list[tuple[str, str]]:
    """What a plan rests on."""
    law = ", ".join(
        f"{name} {value:.4g} [{low:.4g}, {high:.4g}]" for name, (value, low, high) in plan.law.items()
    )
    made: dict[str, Any] = plan.made
    packages = made.get("packages")
    return [
        ("device", plan.device),
        ("losses fitted to", f"{plan.points:,}"),
        ("loss = E + A / N^a + B / D^b", law),
        ("commit", str(made.get("commit"))),
        ("date", str(made.get("date"))[:10]),
        ("jax", str(packages.get("jax") if isinstance(packages, dict) else None)),
    ]
