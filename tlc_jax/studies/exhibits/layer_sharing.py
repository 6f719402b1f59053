"""What sharing of parameters between layers does to training (paper, appendix C, figure 11).

Models whose layers share all parameters, or those of attention, are compared with models of the same size
that share none: at the end of their budget, where all have been trained for as long, and after as many
updates, between evaluations by interpolation over the logarithm of the number of updates. What sharing saves
is in memory_saved.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.evaluated_model import EvaluatedModel, evaluated_models, lead_at_end, with_ends
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.lead import Lead, lead_of
from tlc_jax.studies.measured import grouped, metric_of, size_order, tuning_rows
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.training_curve import AXES, curves_of, draw_curves
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OPTION = "model.shared_layers="
NAMES = {"none": "nothing shared", "attention": "attention shared", "all": "all shared"}
_END_TOGETHER = 1.02  # numbers of updates of which the larger is at most so many times the smaller

WORSE_AFTER_UPDATES = Claim(
    "shared-layers-worse-after-updates",
    "Models whose layers share parameters are worse after as many updates.",
    "appendix C, figure 11",
)
WORSE_AFTER_TIME = Claim(
    "shared-layers-worse-after-time",
    "Models whose layers share parameters are worse after as much training time.",
    "appendix C, figure 11",
)


def sharing(variant: str) -> str | None:
    """What the layers of a variant share that differs in nothing else; None of any other."""
    if not variant:
        return "none"
    alone = variant.startswith(_OPTION) and "," not in variant
    return variant.removeprefix(_OPTION) if alone else None


def _rows(store: ItemStore) -> list[Row]:
    """The evaluations of the sizes that share nothing and something, each with its `sharing`."""

    def wanted(row: Row) -> bool:
        trained = row["stage"] in ("train", "branch") and not row.get("equal")
        return trained and sharing(row["variant"]) is not None

    rows = with_ends(tuning_rows(store, wanted), store)
    rows = [{**row, "sharing": sharing(row["variant"])} for row in rows]
    ended: dict[str, set[str]] = {}
    for row in rows:
        if row["end"]:
            ended.setdefault(row["size"], set()).add(row["sharing"])
    compared = {size for size, kinds in ended.items() if "none" in kinds and len(kinds) > 1}
    order = [*NAMES]
    return sorted(
        (row for row in rows if row["size"] in compared),
        key=lambda row: (size_order(row["size"]), order.index(row["sharing"]), row["seed"], row["step"]),
    )


def _models(rows: list[Row]) -> dict[str, dict[str, EvaluatedModel]]:
    """By size, by what is shared."""
    models: dict[str, dict[str, EvaluatedModel]] = {}
    for model in evaluated_models(rows, ("size", "sharing")):
        size, shared = model.key
        models.setdefault(size, {})[shared] = model
    return models


def _updates(models: dict[str, EvaluatedModel]) -> float | None:
    """The number of updates that all trainings of a size have made. None without branches, where trainings
    end after different numbers: there the learning rate of some would still have had a way to fall."""
    ends = [float(row["step"]) for model in models.values() for row in model.end.rows]
    branches = all(row["stage"] == "branch" for model in models.values() for row in model.rows)
    return min(ends) if branches or max(ends) <= _END_TOGETHER * min(ends) else None


def _after(model: EvaluatedModel, updates: float | None) -> list[Row]:
    """For each training a row with its value after so many updates; [] where one has none around them."""
    if updates is None:
        return []
    seeds, rows = {row["seed"] for row in model.end.rows}, list[Row]()
    for training in grouped((row for row in model.rows if row["seed"] in seeds), ("seed",)):
        [curve] = curves_of(training.rows, "step")[model.key[0]]
        if (value := curve.at(updates)) is None:
            return []
        rows.append({"seed": training.key[0], "value": value})
    return rows


def _findings(rows: list[Row]) -> list[Finding]:
    metric, findings = metric_of(rows[0]), list[Finding]()
    for size, models in _models(rows).items():
        unshared, updates = models["none"], _updates(models)
        for shared, model in models.items():
            if shared == "none" or (lead := lead_at_end(model, unshared, metric)) is None:
                continue
            seconds = f"{unshared.end.number('training_seconds'):,.0f} s"
            findings.append(_finding(WORSE_AFTER_TIME, f"{size}, {NAMES[shared]}", lead, seconds, metric))
            if (lead := lead_of(_after(model, updates), _after(unshared, updates), metric)) is not None:
                after = f"{updates:,.0f} updates"
                findings.append(
                    _finding(WORSE_AFTER_UPDATES, f"{size}, {NAMES[shared]}", lead, after, metric)
                )
    return findings


def _finding(claim: Claim, model: str, lead: Lead, after: str, metric: Metric) -> Finding:
    unit = metric.name.replace("_", " ")
    text = f"after {after}, {model}, leads the same size with nothing shared by {lead} {unit}"
    return Finding(claim, text, lead.mean < 0, lead.p)


def _table(rows: list[Row]) -> Table:
    metric = metric_of(rows[0])
    table = Table(title=f"{metric.name} on {rows[0]['set']} with shared layers")
    columns = ("parameters", "seconds", "updates", "at the end", "after as many updates")
    for name in ("size", "layers", *columns):
        table.add_column(name, justify="right" if name in columns else "left")
    for size, models in _models(rows).items():
        updates = _updates(models)
        for shared, model in models.items():
            after = _after(model, updates)
            parameters = model.number("parameters")
            table.add_row(
                size if shared == "none" else "",
                NAMES[shared],
                "" if parameters is None else f"{parameters:,.0f}",
                f"{model.end.number('training_seconds'):,.0f}",
                f"{model.end.number('step'):,.0f}",
                str(model.end),
                str(grouped(after, ())[0]) if after else "",
            )
    table.caption = "as many updates: the smallest number of those of the size"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    metric = metric_of(rows[0])
    texts = as_sentences(_findings(rows))
    failing = [
        f"{size}, {NAMES[shared]}"
        for size, models in _models(rows).items()
        for shared, model in models.items()
        if not model.passes(metric)
    ]
    if failing:
        texts.append(
            f"Not compared, since no better than the {rows[0]['gate_name']}, {float(rows[0]['gate']):.4f}: "
            f"{'; '.join(failing)}."
        )
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts


def _panels(rows: list[Row]) -> list[list[list[Row]]]:
    """A line of plots for each size: over time, and over updates."""
    return [
        [
            [{**row, "axis": axis} for row in rows if row["size"] == size]
            for axis in ("training_seconds", "step")
        ]
        for size in dict.fromkeys(row["size"] for row in rows)
    ]


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, axis = metric_of(rows[0]), str(rows[0]["axis"])
    curves = curves_of(rows, axis, lambda row: row["sharing"])
    for number, (shared, trainings) in enumerate(curves.items()):
        draw_curves(axes, trainings, NAMES[shared], color=f"C{number}", marker="o", markersize=3)
    if (gate := rows[0].get("gate")) is not None:
        axes.axhline(float(gate), color="grey", linestyle="--", label=plain(str(rows[0]["gate_name"])))
    axes.set(
        xlabel=AXES[axis],
        ylabel=plain(f"{metric.name.replace('_', ' ')} on {rows[0]['set']}"),
        title=f"Layers of {rows[0]['size']}",
    )
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=8)


LAYER_SHARING = Exhibit(
    "layer sharing",
    _rows,
    _table,
    _sentences,
    _draw,
    (WORSE_AFTER_UPDATES, WORSE_AFTER_TIME),
    _findings,
    _panels,
)
