"""What each size needs to reach a loss: updates, seconds and floating-point operations (paper 3, figures 2 to
5, and A.1, figure 10).

Values are compared only where the learning rate has followed the same share of its schedule: those of
finished branches on every axis, and without branches those of whole runs on an axis on which all of them end
at the same point. Trunks are drawn beside their branches, at their stable rate. The cost of a target is
interpolated between two evaluations, never extrapolated. The targets are the last values of the sizes; where
a size has several seeds, the worst of them, which all of its trainings reach.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.evaluation_rates import NEAR, axes_of, compared_axes, rated_evaluations
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import metric_of
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.size_families import families
from tlc_jax.studies.statistics import LEVEL, holm, welch
from tlc_jax.studies.training_curve import (
    AXES,
    Curve,
    cost_ratio,
    cost_text,
    costs_text,
    curves_of,
    draw_curves,
)
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes


FEWER_UPDATES = Claim(
    "larger-fewer-updates",
    "Larger models reach the same loss in fewer updates than smaller ones.",
    "section 3, figures 3, 4 and 5",
)
LESS_TIME = Claim(
    "larger-less-time",
    "Larger models reach the same loss in less training time than smaller ones.",
    "section 3, figures 2, 4 and 5",
)
FEWER_FLOPS = Claim(
    "larger-fewer-flops",
    "Larger models reach the same loss with fewer floating-point operations than smaller ones.",
    "section A.1, figure 10",
)
_CLAIMS = {
    "step": FEWER_UPDATES,
    "training_seconds": LESS_TIME,
    "electra_flops": FEWER_FLOPS,
    "flops": FEWER_FLOPS,
}


def _rows(store: ItemStore) -> list[Row]:
    """The evaluations of the sizes that have several, without variants."""
    rows = rated_evaluations(store, lambda row: not row["variant"], fewest=2)
    return rows if len(_sizes(rows)) > 1 and _compared_axes(rows) else []


def _axes(rows: list[Row]) -> list[str]:
    return [axis for axis in axes_of(rows) if axis in _CLAIMS]


def _compared_axes(rows: list[Row]) -> list[str]:
    return [axis for axis in compared_axes(rows) if axis in _CLAIMS]


def _curves(rows: list[Row], axis: str) -> dict[str, list[Curve]]:
    return curves_of((row for row in rows if row["rate"] != "stable"), axis)


def _targets(rows: list[Row]) -> dict[str, float]:
    """The last value of each size: of several seeds the worst, which all of them reach."""
    metric = metric_of(rows[0])
    worst = min if metric.higher_is_better else max
    curves = _curves(rows, _compared_axes(rows)[0])
    return {size: worst(float(curve.values[-1]) for curve in each) for size, each in curves.items()}


def _sizes(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["size"] for row in rows))


def _gated(rows: list[Row]) -> list[str]:
    """The sizes whose target is no better than the gate."""
    metric, gate = metric_of(rows[0]), rows[0].get("gate")
    targets = _targets(rows) if gate is not None else {}
    return [size for size, target in targets.items() if not metric.better(target, float(gate or 0))]


class _Need(NamedTuple):
    """What a larger size needs on an axis for what a smaller one reaches in the end, whether that is less
    than the smaller one needs, and the p-value of it (None: too few seeds)."""

    axis: str
    size: str
    need: str
    less: bool
    p: float | None


def _needs(rows: list[Row]) -> dict[str, list[_Need]]:
    """For what each size reaches in the end what the next larger one of a family needs, on each axis that a
    claim is about and where that can be said. The keys say what is reached."""
    metric, targets, gated = metric_of(rows[0]), _targets(rows), _gated(rows)
    curves = {axis: _curves(rows, axis) for axis in _claims(rows)}
    needs: dict[str, list[_Need]] = {}
    for family in families(_sizes(rows)).values():
        for smaller, larger in itertools.pairwise(family):
            if smaller in gated or larger in gated:
                continue
            value = f"{targets[smaller]:.4f} {metric.name.replace('_', ' ')}"
            aim = f"for {value}, which {smaller} reaches in the end"
            for axis, models in curves.items():
                judged = _judged(axis, models[smaller], models[larger], targets[smaller], metric)
                needs.setdefault(aim, []).extend([_Need(axis, larger, *judged)] if judged else [])
    return needs


def _judged(
    axis: str, smaller: list[Curve], larger: list[Curve], target: float, metric: Metric
) -> tuple[str, bool, float | None] | None:
    """(need, less, p) of `_Need`; None where that cannot be said."""
    if (ratio := cost_ratio(larger, smaller, target, metric)) is not None:
        if ratio.at_most and ratio.value >= 1:
            return None
        return f"{ratio} times the {AXES[axis]}", ratio.value < 1, ratio.p
    used, needed = min(curve.costs[-1] for curve in larger), max(curve.costs[-1] for curve in smaller)
    if any(curve.cost_of(target, metric) for curve in larger) or used * NEAR < needed:
        return None  # a longer run of the larger size might reach it sooner or later
    ends = [np.array([curve.values[-1] for curve in each]) for each in (smaller, larger)]
    p = welch(*ends) if min(map(len, ends)) > 1 else None
    return f"more than {cost_text(used)} {AXES[axis]}, the end of its run", False, p


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each need of a larger size."""
    return [
        Finding(_CLAIMS[need.axis], f"{aim}, {need.size} needs {need.need}", need.less, need.p)
        for aim, needs in _needs(rows).items()
        for need in needs
    ]


def _claims(rows: list[Row]) -> dict[str, Claim]:
    """The claims that can be judged, by axis; operations by ELECTRA's count, as in the paper, where it is
    there."""
    claims = {axis: _CLAIMS[axis] for axis in _compared_axes(rows)}
    return {axis: claim for axis, claim in claims.items() if axis != "flops" or "electra_flops" not in claims}


def _table(rows: list[Row]) -> Table:
    metric, axes, targets = metric_of(rows[0]), _compared_axes(rows), _targets(rows)
    curves = {axis: _curves(rows, axis) for axis in axes}
    table = Table(title=f"What each size needs for a value of {metric.name} on {rows[0]['set']}")
    table.add_column("value")
    table.add_column("size")
    for axis in axes:
        table.add_column(AXES[axis], justify="right")
    for family in families(_sizes(rows)).values():
        for first, size in enumerate(family[:-1]):
            for other in family[first:]:
                costs = [
                    [each.cost_of(targets[size], metric) for each in curves[axis][other]] for axis in axes
                ]
                table.add_row(
                    f"{targets[size]:.4f} ({size})" if other == size else "", other, *map(costs_text, costs)
                )
    table.caption = "value: the last of the size in brackets, the worst of its seeds; costs by interpolation"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    by_aim = _needs(rows)
    needs = [need for each in by_aim.values() for need in each]
    tested = [need for need in needs if need.p is not None]
    corrected = dict(zip(map(id, tested), holm([float(need.p or 0) for need in tested]), strict=True))
    texts = []
    for aim, each in by_aim.items():
        for size, of_size in itertools.groupby(each, key=lambda need: need.size):
            said = "; ".join(f"{need.need}{_tested(corrected.get(id(need)))}" for need in of_size)
            texts.append(f"{aim[:1].upper()}{aim[1:]}, {size} needs {said}.")
    if len(tested) < len(needs):
        texts.append("A size with one seed is not tested: another seed may turn an order.")
    if gated := _gated(rows):
        texts.append(
            f"Not compared: what {', '.join(gated)} {'reaches' if len(gated) == 1 else 'reach'} in the end, "
            f"which is no better than the {rows[0]['gate_name']}."
        )
    if skipped := [AXES[axis] for axis in _axes(rows) if axis not in _compared_axes(rows)]:
        texts.append(
            f"Not compared over {', '.join(skipped)}: the learning rate of each size falls to the end of "
            "its run, which is not the same there. Branches of trunks can be compared."
        )
    if any(row["rate"] == "stable" for row in rows):
        texts.append(
            "Compared are finished branches; dotted lines are their trunks, at a stable learning rate."
        )
    if needs:
        texts.append(
            "A larger size is asked for what a smaller one ends with; for what that reached earlier, the "
            "smaller one may need less."
        )
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts


def _tested(p: float | None) -> str:
    return "" if p is None else f" ({'resolved' if p < LEVEL else 'not resolved'} over seeds, p = {p:.2g})"


def _panels(rows: list[Row]) -> list[list[list[Row]]]:
    """A line of plots for each family of sizes, a plot in it for each axis."""
    compared = _compared_axes(rows)
    return [
        [
            [
                {**row, "axis": axis, "family": name, "compared": axis in compared}
                for row in rows
                if row["size"] in family
            ]
            for axis in _axes(rows)
        ]
        for name, family in families(_sizes(rows)).items()
    ]


def _draw(axes: Axes, rows: list[Row]) -> None:
    axis, metric = str(rows[0]["axis"]), metric_of(rows[0])
    stable = curves_of((row for row in rows if row["rate"] == "stable"), axis)
    for number, (size, trainings) in enumerate(_curves(rows, axis).items()):
        draw_curves(axes, trainings, size, color=f"C{number}", marker="o", markersize=3)
        for curve in stable.get(size, []):
            axes.plot(curve.costs, curve.values, ":", color=f"C{number}", linewidth=1)
    if (gate := rows[0].get("gate")) is not None:
        axes.axhline(float(gate), color="grey", linestyle="--", label=plain(str(rows[0]["gate_name"])))
    axes.set(
        xlabel=AXES[axis],
        ylabel=plain(f"{metric.name.replace('_', ' ')} on {rows[0]['set']}"),
        title=f"{rows[0]['family']}{'' if rows[0]['compared'] else ': rates differ, not compared'}",
    )
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=8)


LEARNING_CURVES = Exhibit(
    "learning curves",
    _rows,
    _table,
    _sentences,
    _draw,
    (FEWER_UPDATES, LESS_TIME, FEWER_FLOPS),
    _findings,
    _panels,
)
