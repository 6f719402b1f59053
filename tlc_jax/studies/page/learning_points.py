"""The evaluations that the page draws: of the trainings of a study, of those that still run, and of runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.evaluation_rates import all_evaluations
from tlc_jax.studies.finished_run import EVALUATED
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import GATES
from tlc_jax.studies.training_curve import AXES
from tlc_jax.tasks.metric import ACCURACY, CONFUSION_METRICS, NATS_PER_BYTE, Metric
from tlc_jax.training.metrics import read_metrics, with_tokens

_KINDS = {"finished": "finished", "stable": "trunk", "falling": "run"}
METRICS = (
    NATS_PER_BYTE,
    *(metric for name, metric in sorted(CONFUSION_METRICS.items()) if name != ACCURACY.name),
    ACCURACY,
    Metric("perplexity", higher_is_better=False),
)
"""The first that a run has is drawn: perplexity is what runs of older versions have."""


@dataclass(frozen=True)
class Training:
    """The evaluations of a training, in the order of updates: rows with the columns of `AXES`, as far as they
    are known, and `value`. `run` is the name of its run directory; '' of branches, which are several."""

    model: str
    label: str
    kind: str
    seed: int | None
    run: str
    points: Sequence[Row]
    metric: Metric | None = None
    on: str = ""
    gate: float | None = None
    gate_name: str = ""
    about: dict[str, Any] = field(default_factory=dict)


def trainings_of_study(store: ItemStore) -> list[Training]:
    """One for the finished branches of each training, one for its trunk, and one for each other run."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in all_evaluations(store):
        model = f"{row['size']} {row['variant']}".strip()
        grouped.setdefault((model, row["seed"], row["rate"]), []).append(row)
    return [_of_rows(model, seed, rate, rows) for (model, seed, rate), rows in grouped.items()]


def _of_rows(model: str, seed: int, rate: str, rows: list[Row]) -> Training:
    return Training(
        model=model,
        label=f"{model}, seed {seed}",
        kind=_KINDS[rate],
        seed=seed,
        run="" if rate == "finished" else str(rows[0]["item"]),
        points=sorted(rows, key=lambda row: row["step"]),
        gate=rows[0].get("gate"),
        gate_name=str(rows[0].get("gate_name") or ""),
    )


def training_of_run(rundir: RunDir, name: str) -> Training:
    """The evaluations of a run on the first set that it was evaluated on; no points where it has none yet."""
    lines = list(read_metrics(rundir.metrics)) if rundir.metrics.exists() else []
    names = dict.fromkeys(key for line in lines if line["step"] for key in line if key.startswith(EVALUATED))
    for metric in METRICS:
        if keys := [key for key in names if key.rpartition("/")[2] == metric.name]:
            break
    else:
        return Training(name, name, "run", None, name, [], about={"lines": len(lines)})
    gate_name, gate = _gate(lines, keys[0], metric)
    points = [
        {**point, "value": point[keys[0]]}
        for point in with_tokens(lines)
        if math.isfinite(point.get(keys[0], math.nan))  # a training that diverged ends in others
    ]
    on = keys[0].removeprefix(EVALUATED).rpartition("/")[0]
    return Training(name, name, "run", None, name, points, metric, on, gate, gate_name)


def _gate(lines: list[dict[str, Any]], key: str, metric: Metric) -> tuple[str, float | None]:
    """(name, value) of the count model that a run has to beat, on the same set."""
    on = key.rpartition("/")[0]
    for line in lines:
        for start, name in GATES.items():
            if (value := line.get(f"{on}/{start}_{metric.name}")) is not None:
                return name, float(value)
    return "", None


def axes_of_trainings(trainings: Sequence[Training]) -> list[str]:
    """The costs that all points have."""
    points = [point for training in trainings for point in training.points]
    return [axis for axis in AXES if points and all(point.get(axis, 0) > 0 for point in points)]


def thinned(trainings: Sequence[Training], most: int) -> list[Training]:
    """So many points at most, but two of each training: an equal number of each, spread evenly over the
    logarithm of the update."""
    if sum(len(training.points) for training in trainings) <= most:
        return list(trainings)
    share, each = most, dict[int, int]()
    for left, (number, training) in enumerate(
        sorted(enumerate(trainings), key=lambda pair: len(pair[1].points)), start=-len(trainings)
    ):
        each[number] = min(len(training.points), max(2, share // -left))
        share -= each[number]
    return [
        replace(training, points=_spread(training.points, each[n])) for n, training in enumerate(trainings)
    ]


def _spread(points: Sequence[Row], count: int) -> Sequence[Row]:
    """The first point, the last, and those nearest to steps that are evenly spread over the logarithm."""
    if len(points) <= count:
        return points
    first, last = (math.log(max(1, points[end]["step"])) for end in (0, -1))
    kept, position = {0, len(points) - 1}, 0
    for number in range(1, count - 1):
        wanted = first + (last - first) * number / (count - 1)
        while position < len(points) - 1 and math.log(max(1, points[position]["step"])) < wanted:
            position += 1
        kept.add(position)
    return [points[index] for index in sorted(kept)]
