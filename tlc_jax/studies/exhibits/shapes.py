"""Depth or width: whether the shape of a model matters beside its number of parameters (paper 3, "Increase
Model Width and Sometimes Depth"; figures 3 and 4).

A study needs depths of one width and widths of one depth that share a size. All are compared after the same
number of updates. A depth is set against the widths at its own number of parameters, by a straight line over
the logarithm of parameters between the two neighbouring widths. Losses are convex over that logarithm, so the
line is a little above them, which flatters depth. A model depends weakly on its shape if that changes it by
less than a third of what the parameters do.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.core.printable import counted
from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.evaluation_rates import compared_axes, rated_evaluations
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import GATES, Measured, above_gate, grouped, metric_of
from tlc_jax.studies.picture import draw_means, logarithmic_losses, logarithmic_x, plain
from tlc_jax.studies.size_families import families
from tlc_jax.studies.statistics import Contrast, contrast
from tlc_jax.studies.training_curve import cost_text, curves_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WEAKLY = 3  # how many times more the parameters change than a shape that matters weakly

SHAPE = Claim(
    "parameters-not-shape",
    "How fast a masked language model learns depends on its number of parameters, and weakly on its shape: "
    "less than a third as much.",
    'section 3, "Increase Model Width and Sometimes Depth"; figures 3 and 4',
)
WIDER = Claim(
    "translation-wider-not-deeper",
    "For translation, a wider model is better than a deeper one with as many parameters.",
    'section 3, "Increase Model Width and Sometimes Depth"',
)


def _rows(store: ItemStore) -> list[Row]:
    """A row for each training of each size of two families, with its value after the same number of
    updates."""
    rows = rated_evaluations(store, lambda row: not row["variant"])
    rows = [row for row in rows if row["rate"] != "stable" and row.get("parameters")]
    if not rows or "step" not in compared_axes(rows):
        return []
    by_name = families(list(dict.fromkeys(row["size"] for row in rows)))
    if len(by_name) != 2:
        return []
    curves = curves_of(rows, "step", lambda row: (row["size"], row["seed"]))
    updates = float(min(curve.costs[-1] for [curve] in curves.values()))
    last = {(row["size"], row["seed"]): row for row in rows}
    values = {training: curve.at(updates) for training, [curve] in curves.items()}
    if None in values.values():
        return []
    return [
        {**last[size, seed], "updates": updates, "family": name, "value": values[size, seed]}
        for name, sizes in by_name.items()
        for size, seed in values
        if size in sizes
    ]


@dataclass(frozen=True)
class _Sum:
    """A weighted sum of means over seeds; `tested` is None where a model has a single seed."""

    mean: float
    tested: Contrast | None

    def __str__(self) -> str:
        return str(self.tested or f"{self.mean:+.4f}")

    @property
    def p(self) -> float | None:
        return self.tested.p if self.tested else None


@dataclass(frozen=True)
class _Case:
    """A depth beside the widths at its number of parameters. `shape` is how much worse it is than they,
    `parameters` how much better the larger of it and `shared` is, the size that is in both families."""

    depth: Measured
    widths: tuple[Measured, Measured]
    shared: Measured
    shape: _Sum
    parameters: _Sum
    more: tuple[_Sum, _Sum]
    """How much more the parameters change than three times what the shape does, whichever way it does."""

    @property
    def supports(self) -> bool:
        """Whether the parameters change so much more."""
        return min(each.mean for each in self.more) > 0

    @property
    def p(self) -> float | None:
        """That they change more needs both ways, that they change less only one, the worse."""
        tested = self.more if self.supports else [min(self.more, key=lambda each: each.mean)]
        values = [each.p for each in tested]
        return None if None in values else max(value for value in values if value is not None)

    @property
    def wider(self) -> bool:
        """Whether the wider of the two shapes is better: the depth may be more or fewer layers than that of
        the widths."""
        deeper = int(self.depth.key[1].split("x")[0]) > int(self.shared.key[1].split("x")[0])
        return (self.shape.mean > 0) == deeper

    def models(self) -> list[Measured]:
        return [self.depth, *self.widths, self.shared]


def _families(rows: list[Row]) -> dict[str, list[Measured]]:
    """The sizes of each family, depths first, in the order of their parameters."""
    by_name = {model.key[0]: [] for model in grouped(rows, ("family",))}
    for model in grouped(rows, ("family", "size")):
        by_name[model.key[0]].append(model)
    return {name: sorted(models, key=_parameters) for name, models in by_name.items()}


def _parameters(model: Measured) -> float:
    return model.number("parameters")


def _cases(rows: list[Row]) -> list[_Case]:
    depths, widths = _families(rows).values()
    shared = [model for model in depths if model.key[1] in {width.key[1] for width in widths}]
    cases = []
    for depth in depths if shared else []:
        for pair in itertools.pairwise(widths):
            low, high = map(_parameters, pair)
            if depth is not shared[0] and low <= _parameters(depth) <= high:
                part = math.log(_parameters(depth) / low) / math.log(high / low)
                cases.append(_case(depth, pair, shared[0], part))
    return cases


def _case(depth: Measured, widths: tuple[Measured, Measured], shared: Measured, part: float) -> _Case:
    """`part` is how far from the first to the second width the depth is."""
    sign = -1.0 if metric_of(depth.rows[0]).higher_is_better else 1.0
    models = {model.key[1]: model.values for model in (depth, *widths, shared)}
    shape = Counter({depth.key[1]: 1.0, widths[0].key[1]: part - 1, widths[1].key[1]: -part})
    smaller, larger = sorted((depth, shared), key=_parameters)
    gained = Counter({smaller.key[1]: 1.0, larger.key[1]: -1.0})

    def summed(times_gained: float, times_shape: float) -> _Sum:
        weights = {size: sign * (times_gained * gained[size] + times_shape * shape[size]) for size in models}
        groups = [(weight, models[size]) for size, weight in weights.items() if weight]
        return _Sum(sum(weight * float(values.mean()) for weight, values in groups), contrast(groups))

    return _Case(depth, widths, shared, summed(0, 1), summed(1, 0), (summed(1, -_WEAKLY), summed(1, _WEAKLY)))


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each depth with widths on both sides of its number of parameters: of translations, whether the
    widths are better; of other models, whether the parameters change much more than the shape does."""
    metric = metric_of(rows[0])
    made = []
    for case in _cases(rows):
        if above_gate(case.models(), metric):
            continue
        size, shared, one, other = (model.key[1] for model in (case.depth, case.shared, *case.widths))
        unit, layers = metric.name.replace("_", " "), counted(int(shared.split("x")[0]), "layer")
        effect = (
            f"after {cost_text(rows[0]['updates'])} updates, {size} is {case.shape} {unit} worse than "
            f"{layers} with as many parameters (between {one} and {other})"
        )
        if rows[0]["gate_name"] == GATES["target_bigram"]:
            made.append(Finding(WIDER, effect, case.wider, case.shape.p))
            continue
        effect += f"; the larger of it and {shared} is {case.parameters} better than the smaller"
        made.append(Finding(SHAPE, effect, case.supports, case.p))
    return made


def _table(rows: list[Row]) -> Table:
    metric = metric_of(rows[0])
    table = Table(title=f"{metric.name} on {rows[0]['set']} after {cost_text(rows[0]['updates'])} updates")
    for name in ("family", "size", "parameters", "value"):
        table.add_column(name, justify="right" if name in ("parameters", "value") else "left")
    for name, models in _families(rows).items():
        for model in models:
            first = name if model is models[0] else ""
            table.add_row(first, model.key[1], f"{_parameters(model):,.0f}", str(model))
    if (gate := rows[0].get("gate")) is not None:
        table.caption = f"{rows[0]['gate_name']} {float(gate):.4f}"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    texts = as_sentences(_findings(rows))
    if len(_findings(rows)) < len(_cases(rows)):
        texts.append(f"Sizes that are no better than the {rows[0]['gate_name']} are not compared.")
    return texts


def _draw(axes: Axes, rows: list[Row]) -> None:
    for name, models in _families(rows).items():
        draw_means(axes, [_parameters(model) for model in models], [model.values for model in models], name)
        for model in models:
            axes.annotate(model.key[1], (_parameters(model), model.mean), fontsize=7, alpha=0.7)
    metric = metric_of(rows[0])
    axes.set(
        xlabel="parameters",
        ylabel=plain(f"{metric.name.replace('_', ' ')} on {rows[0]['set']}"),
        title=f"Shape: after {cost_text(rows[0]['updates'])} updates",
    )
    logarithmic_x(axes)
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=8)


SHAPES = Exhibit("shapes", _rows, _table, _sentences, _draw, (SHAPE, WIDER), _findings)
