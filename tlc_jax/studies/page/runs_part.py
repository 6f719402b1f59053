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


def answer_of_runs(trainings: Sequence[Training]) -> list[str]:
    """How runs end: the best first. A single run of each says nothing about another seed."""
    ends = [training for training in trainings if training.points]
    unfinished = [training.label for training in trainings if not training.points]
    texts = list[str]()
    if ends and (metric := ends[0].metric) is not None:
        sign = -1 if metric.higher_is_better else 1
        ends.sort(key=lambda each: sign * float(each.points[-1]["value"]))
        texts.append(f"{'Of these runs ' if len(ends) > 1 else ''}{_end(ends[0], metric)}.")
        if len(ends) > 1:
            texts.append(f"Next is {_end(ends[1], metric)}: a single training each, so another may turn it.")
        else:
            texts.append("A single training has no interval: another seed may end elsewhere.")
        if (gate := ends[0].gate) is not None:
            better = metric.better(float(ends[0].points[-1]["value"]), gate)
            texts.append(
                f"The {ends[0].gate_name}, which counts alone reach, is {gate:.4f}"
                f"{'' if better else ': the run is no better yet'}."
            )
    if unfinished:
        texts.append(f"No evaluation yet: {', '.join(unfinished[:10])}.")
    return [printable(text, 500) for text in texts]


def _end(training: Training, metric: Metric) -> str:
    last = training.points[-1]
    seconds = last.get("training_seconds")
    after = f"after {duration(float(seconds))} of training, " if seconds is not None else ""
    return (
        f"{training.label} ends at {float(last['value']):.4g} {metric_words(metric.name)} on {training.on}, "
        f"{after}{last['step']:,} updates"
    )
