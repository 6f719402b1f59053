"""A larger batch or a larger model: batch sizes with their learning rates, for each size of a study, at equal
time, updates and tokens (paper 3, "Increase Model Size, Not Batch Size"; A.2, table 1 and figure 13).

The batch sizes are those of the study's variants. Of several learning rates of one batch size, each size is
shown with its best, by the last value of the first seed. That seed is then compared nowhere, since a training
that chooses favours what it has chosen. Values are compared as those of the learning curves
are: at the same share of the schedule, between evaluations, never beyond them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.evaluation_rates import NEAR, axes_of, compared_axes, rated_evaluations
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.lead import lead_of
from tlc_jax.studies.measured import Measured, grouped, metric_of
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.training_curve import AXES, cost_text, curves_of, draw_curves
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AXES = ("training_seconds", "step", "tokens")
_OPTION, _RATE = "batch_size=", "optimizer.learning_rate="
_BESIDE = ("optimizer.", "schedule.", "micro_batch=")  # options that may differ with the batch size

FEWER_UPDATES = Claim(
    "batch-fewer-updates",
    "With a larger batch and the learning rate that goes with it, a model is better after the same number of "
    "updates.",
    "section A.2, figure 13",
)
SIZE_NOT_BATCH = Claim(
    "size-not-batch",
    "In the same training time, a larger model gains more than a larger batch does.",
    'section 3, "Increase Model Size, Not Batch Size"',
)


def _rows(store: ItemStore) -> list[Row]:
    """The evaluations of the sizes that have several batch sizes, each with its `batch` and the learning rate
    that its variant gives it, at the best rate of each batch size."""
    rows = rated_evaluations(store, lambda row: _of_batch(row["variant"]))
    given = [row for row in rows if _value(row["variant"], _OPTION)]
    if not given:
        return []
    tokens = float(given[0]["tokens_per_step"]) / float(_value(given[0]["variant"], _OPTION))
    for row in rows:
        # updates of buckets of pairs have a few tokens less than the batch size
        row["batch"] = int(_value(row["variant"], _OPTION) or round(row["tokens_per_step"] / tokens))
        row["learning_rate"] = _value(row["variant"], _RATE)
    rows = _at_best_rates(sorted(rows, key=lambda row: row["batch"]))
    several = [size for size in _sizes(rows) if len(_batches(rows, size)) > 1]
    rows = [row for size in several for row in rows if row["size"] == size]
    return rows if "training_seconds" in compared_axes(rows) else []


def _of_batch(variant: str) -> bool:
    return all(part.startswith((_OPTION, *_BESIDE)) for part in variant.split(",") if part)


def _value(variant: str, option: str) -> str:
    """The value of an option in a variant; '' where it has none."""
    values = [part.removeprefix(option) for part in variant.split(",") if part.startswith(option)]
    return values[0] if values else ""


def _at_best_rates(rows: list[Row]) -> list[Row]:
    """The rows of each size and batch size at its best learning rate, each with the `chosen_by` of a study
    that has several: the seed whose last values choose. It is left out where there are others."""
    variants = {(*_key(row), row["variant"]) for row in rows}
    if len(variants) == len({_key(row) for row in rows}):
        return [{**row, "chosen_by": None} for row in rows]
    metric, first = metric_of(rows[0]), min(row["seed"] for row in rows)
    choosing = [row for row in _compared(rows) if row["seed"] == first]
    curves = curves_of(choosing, "training_seconds", lambda row: (*_key(row), row["variant"]))
    best: dict[tuple[str, int], tuple[float, str]] = {}
    for (size, batch, variant), [curve] in curves.items():
        last = float(curve.values[-1])
        if (size, batch) not in best or metric.better(last, best[size, batch][0]):
            best[size, batch] = last, variant
    chosen = [row for row in rows if best.get(_key(row), (0, None))[1] == row["variant"]]
    others = [row for row in chosen if row["seed"] != first]
    return [{**row, "chosen_by": first} for row in others or chosen]


def _key(row: Row) -> tuple[str, int]:
    return row["size"], row["batch"]


def _compared(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["rate"] != "stable"]


def _sizes(rows: list[Row]) -> list[str]:
    """In the order of their parameters."""
    parameters = {row["size"]: row["parameters"] for row in rows}
    return sorted(parameters, key=lambda size: parameters[size])


def _batches(rows: list[Row], size: str) -> list[int]:
    return sorted({row["batch"] for row in rows if row["size"] == size})


class _Point(NamedTuple):
    """The values of each batch size of a size, with a row for each training, at the largest cost that all of
    its trainings have used."""

    cost: float
    models: dict[int, Measured]


def _at_equal(rows: list[Row], axis: str) -> dict[str, _Point]:
    """For each size its batch sizes at an equal cost; without the sizes whose curves have none in common."""
    curves = curves_of(_compared(rows), axis, lambda row: (*_key(row), row["seed"]))
    points = {}
    for size in _sizes(rows):
        mine = {key[1:]: curve for key, [curve] in curves.items() if key[0] == size}
        cost = float(min(curve.costs[-1] for curve in mine.values()))
        reached = [
            {"batch": batch, "seed": seed, "value": curve.at(cost)} for (batch, seed), curve in mine.items()
        ]
        if all(row["value"] is not None for row in reached):
            points[size] = _Point(cost, {each.key[0]: each for each in grouped(reached, ("batch",))})
    return points


def _axes(rows: list[Row]) -> list[str]:
    return [axis for axis in _AXES if axis in compared_axes(rows)]


def _finding(
    claim: Claim, rows: list[Row], when: str, named: tuple[str, str], models: tuple[Measured, Measured]
) -> Iterator[Finding]:
    """That the first model is better than the second; nothing where one is no better than the gate."""
    metric, gate = metric_of(rows[0]), rows[0].get("gate")
    lead = lead_of(models[0].rows, models[1].rows, metric)
    passing = gate is None or all(metric.better(model.mean, float(gate)) for model in models)
    if lead is not None and passing:
        effect = f"{when}, the lead of {named[0]} over {named[1]} is {lead} {metric.name.replace('_', ' ')}"
        yield Finding(claim, effect, lead.mean > 0, lead.p)


def _findings(rows: list[Row]) -> list[Finding]:
    """Each batch size against the next larger one at equal updates; and at equal time, from each size and
    batch size, the next larger size against the next larger batch. Sizes whose times differ, since
    their budgets are updates, are not compared at equal time."""
    made: list[Finding] = []
    for size, point in (_at_equal(rows, "step") if "step" in _axes(rows) else {}).items():
        when = f"after {cost_text(point.cost)} updates of {size}"
        for smaller, larger in itertools.pairwise(point.models):
            named = f"a batch of {larger:,}", f"one of {smaller:,}"
            models = point.models[larger], point.models[smaller]
            made += _finding(FEWER_UPDATES, rows, when, named, models)
    by_size = _at_equal(rows, "training_seconds")
    for (size, point), (next_size, next_point) in itertools.pairwise(by_size.items()):
        if max(point.cost, next_point.cost) > NEAR * min(point.cost, next_point.cost):
            continue
        when = f"after {cost_text(point.cost)} s"
        for batch, next_batch in itertools.pairwise(point.models):
            if batch in next_point.models:
                named = f"{next_size} with a batch of {batch:,}", f"{size} with one of {next_batch:,}"
                models = next_point.models[batch], point.models[next_batch]
                made += _finding(SIZE_NOT_BATCH, rows, when, named, models)
    return made


def _table(rows: list[Row]) -> Table:
    """A line for each size with the costs at which its batch sizes are compared, then one for each batch."""
    metric, axes = metric_of(rows[0]), _axes(rows)
    points = {axis: _at_equal(rows, axis) for axis in axes}
    rates = {_key(row): row["learning_rate"] or "of the study" for row in rows}
    table = Table(title=f"{metric.name} on {rows[0]['set']} by batch size")
    for name in ("size", "batch", "learning rate"):
        table.add_column(name, justify="left" if name == "size" else "right")
    for axis in axes:
        table.add_column(f"at equal {AXES[axis]}", justify="right")
    for size in _sizes(rows):
        costs = [f"{cost_text(points[axis][size].cost)}" if size in points[axis] else "" for axis in axes]
        table.add_row(size, "", "", *costs)
        for batch in _batches(rows, size):
            cells = [_cell(points[axis].get(size), batch, metric) for axis in axes]
            table.add_row("", f"{batch:,}", rates[size, batch], *cells)
    table.caption = "* best of a size" + (
        "" if rows[0].get("gate") is None else f"; {rows[0]['gate_name']} {float(rows[0]['gate']):.4f}"
    )
    return table


def _cell(point: _Point | None, batch: int, metric: Metric) -> str:
    if point is None:
        return ""
    best = metric.best(point.models.values(), lambda model: model.mean)
    return f"{point.models[batch]}{' *' if point.models[batch] is best else ''}"


def _sentences(rows: list[Row]) -> list[str]:
    metric = metric_of(rows[0])
    texts = []
    for axis in _axes(rows):
        best = {
            size: metric.best(point.models.values(), lambda model: model.mean).key[0]
            for size, point in _at_equal(rows, axis).items()
        }
        named = ", ".join(f"{batch:,} of {size}" for size, batch in best.items())
        texts.append(f"The best batch size at equal {AXES[axis]}: {named}.")
    if skipped := [AXES[axis] for axis in _AXES if axis not in _axes(rows) and axis in axes_of(rows)]:
        texts.append(
            f"Not compared over {', '.join(skipped)}: the learning rate of each run falls to its end, which "
            "is not the same there. Branches of trunks can be compared."
        )
    if (first := rows[0]["chosen_by"]) is not None:
        apart = {row["seed"] for row in rows} != {first}
        texts.append(
            f"Learning rates are chosen by the last values of seed {first}, "
            + ("which is compared nowhere." if apart else "the only one, so what has several is favoured.")
        )
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts + as_sentences(_findings(rows))


def _panels(rows: list[Row]) -> list[list[list[Row]]]:
    """A line of plots for each size, a plot in it for each cost."""
    axes = [axis for axis in _AXES if axis in axes_of(rows)]
    return [
        [[{**row, "axis": axis} for row in rows if row["size"] == size] for axis in axes]
        for size in _sizes(rows)
    ]


def _draw(axes: Axes, rows: list[Row]) -> None:
    axis, metric = str(rows[0]["axis"]), metric_of(rows[0])
    for batch, trainings in curves_of(_compared(rows), axis, lambda row: row["batch"]).items():
        draw_curves(axes, trainings, f"batch of {batch:,}", marker="o", markersize=3)
    if (gate := rows[0].get("gate")) is not None:
        axes.axhline(float(gate), color="grey", linestyle="--", label=plain(str(rows[0]["gate_name"])))
    axes.set(
        xlabel=AXES[axis],
        ylabel=plain(f"{metric.name.replace('_', ' ')} on {rows[0]['set']}"),
        title=rows[0]["size"],
    )
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=8)


BATCH_SIZES = Exhibit(
    "batch sizes", _rows, _table, _sentences, _draw, (FEWER_UPDATES, SIZE_NOT_BATCH), _findings, _panels
)
