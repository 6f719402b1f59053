"""Runs as a part of the page: their curves, and how they end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import printable
from tlc_jax.runs.starts import read_starts
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.page.learning_points import Training, axes_of_trainings, thinned, training_of_run
from tlc_jax.studies.page.page_schema import Part
from tlc_jax.studies.page.page_words import duration, logarithmic, metric_words
from tlc_jax.studies.training_curve import AXES
from tlc_jax.tasks.metric import Metric


def runs_part(
    roots: Sequence[AnyPath], names: Sequence[str], links: dict[str, str], most: int
) -> tuple[Part, list[Training]]:
    """The part of runs of one metric, with so many points of curves at most, and all of their evaluations.
    UserError where they were evaluated differently. `links` lead to the runs, by their names."""
    trainings = [training_of_run(RunDir(root), name) for root, name in zip(roots, names, strict=True)]
    evaluated = [training for training in trainings if training.points]
    if len(kinds := {(each.metric.name if each.metric else "", each.on) for each in evaluated}) > 1:
        sets = ", ".join(sorted(printable(f"{name} on {on}") for name, on in kinds))
        raise UserError(f"the runs were evaluated by {sets}: report runs of the same metric together")
    axes = axes_of_trainings(evaluated)
    first = evaluated[0] if evaluated else Training("", "", "run", None, "", [])
    metric = first.metric or Metric("", higher_is_better=False)
    part: Part = {
        "name": "Runs" if len(roots) > 1 else printable(names[0]),
        "models": [printable(name) for name in names],
        "commands": [_command(root) for root in roots],
        "axes": [(axis, AXES[axis]) for axis in axes],
        "metric": metric_words(metric.name),
        "higher_is_better": metric.higher_is_better,
        "logarithmic": logarithmic(metric.name) or metric.name == "perplexity",
        "trained_on": printable(first.on),
        "files_on": "",
        "files_metric": "",
        "estimates": "",
        "gate": first.gate,
        "gate_name": first.gate_name,
        "files_gate": None,
        "curves": [
            {
                "model": names.index(each.model),
                "label": printable(each.label),
                "kind": each.kind,
                "columns": {axis: [float(point[axis]) for point in each.points] for axis in axes},
                "values": [float(point["value"]) for point in each.points],
                "command": names.index(each.model),
                "run": links.get(each.run, ""),
            }
            for each in thinned(trainings, most)
            if each.points
        ],
        "dense": [],
        "files": {},
        "times": [],
        "limits": [],
        "choices": [],
        "start": (0, 0),
    }
    return part, trainings


def _command(root: AnyPath) -> str:
    """The command that began the run, as its first start recorded it."""
    for start in read_starts(RunDir(root)):
        if isinstance(words := start.get("command"), list) and words:
            program, *arguments = map(str, words)
            name = program.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
            began = command(name) if name != "tlc" else "tlc"
            return printable(" ".join([began, *map(shlex.quote, arguments)]), 2000)
    return ""


def answer_of_runs(trainings: Sequence[Training]) -> tuple[str, str, str]:
    """How runs end: the best, where it ends, and the next. A single run of each says nothing about another
    seed."""
    ends = [training for training in trainings if training.points]
    unfinished = [training.label for training in trainings if not training.points]
    without = f"No evaluation yet: {', '.join(unfinished[:10])}." if unfinished else ""
    if not ends or (metric := ends[0].metric) is None:
        return printable(without or "No runs."), "", ""
    sign = -1 if metric.higher_is_better else 1
    best, *others = sorted(ends, key=lambda each: sign * float(each.points[-1]["value"]))
    words = f"{metric_words(metric.name)} on {best.on}"
    head = f"{best.label} reaches {_value(best)} {words}."
    if others:
        head = f"Of {len(ends)} runs {best.label} ends best, at {_value(best)} {words}."
    details = [f"It has had {_spent(best)}."]
    if (gate := best.gate) is not None:
        better = metric.better(float(best.points[-1]["value"]), gate)
        compared = "" if better else ", and the run is no better yet"
        details.append(f"Counts alone, the {best.gate_name}, reach {gate:.4g}{compared}.")
    alone = "A single training has no interval: another seed may end elsewhere."
    if others:
        next_best = f"Next is {others[0].label}, {_value(others[0])} after {_spent(others[0])}"
        alone = f"{next_best}: a single training each, so another seed may turn the order."
    texts = head, " ".join(details), " ".join(filter(None, (alone, without)))
    return printable(texts[0], 500), printable(texts[1], 500), printable(texts[2], 500)


def _value(training: Training) -> str:
    return f"{float(training.points[-1]['value']):.4g}"


def _spent(training: Training) -> str:
    last = training.points[-1]
    seconds = last.get("training_seconds")
    updates = f"{last['step']:,} updates"
    return updates if seconds is None else f"{updates} in {duration(float(seconds))} of training"
