"""What a share of the training data does to each size (paper 5.1, figure 14).

Sizes are compared at the end of their budget, where all have been trained for as long, each on the same part
of the data. Two numbers say whether a model overfits: how far its loss on the held-out set is from that of
its last updates, and whether an earlier evaluation was better than the last one. A model counts if one of its
evaluations is better than its gate, which is counted on the same part.

A large model may also end worse for another reason: that it is not trained for long enough. So "since it
overfits" needs two things more: it ends worse than it was before, and its lead is smaller than with all data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.evaluated_model import EvaluatedModel, best_of, evaluated_models, lead_at_end, with_ends
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.lead import Lead, change_of, lead_of
from tlc_jax.studies.measured import metric_of, size_order, tuning_rows
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.training_curve import curves_of, draw_curves
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OPTION = "data_share="
_FIVE, _ONE = 0.05, 0.01  # the shares that the claims are about

SMALLER_LEAD = Claim(
    "less-data-smaller-lead",
    "The largest model leads the next smaller one by less if both are trained on 5 % of the data.",
    "section 5.1, figure 14 (top)",
)
OVERFITS = Claim(
    "largest-overfits",
    "Trained on 1 % of the data, the largest model ends worse than the next smaller one, since it overfits.",
    "section 5.1, figure 14 (bottom)",
)
SMALL_STILL_GAIN = Claim(
    "small-models-still-gain",
    "Trained on 1 % of the data, a model of medium size still ends better than the smallest one.",
    "section 5.1, figure 14 (bottom)",
)


def data_share(variant: str) -> float | None:
    """The share of the data of a variant that differs in nothing else; None of any other."""
    if not variant:
        return 1.0
    alone = variant.startswith(_OPTION) and "," not in variant
    return float(variant.removeprefix(_OPTION)) if alone else None


def _rows(store: ItemStore) -> list[Row]:
    """The evaluations of runs on shares of the data, each with its `data_share`."""

    def wanted(row: Row) -> bool:
        trained = row["stage"] in ("train", "branch") and not row.get("equal")
        return trained and data_share(row["variant"]) is not None

    rows = with_ends(tuning_rows(store, wanted), store)
    rows = [{**row, "data_share": data_share(row["variant"])} for row in rows]
    if len({row["data_share"] for row in rows if row["end"]}) < 2:
        return []
    return sorted(
        rows, key=lambda row: (-row["data_share"], size_order(row["size"]), row["seed"], row["step"])
    )


def _models(rows: list[Row]) -> dict[float, list[EvaluatedModel]]:
    """The sizes of each share, the smallest first; all data come first."""
    models: dict[float, list[EvaluatedModel]] = {}
    for model in evaluated_models(rows, ("size", "data_share")):
        models.setdefault(model.key[1], []).append(model)
    return models


def _findings(rows: list[Row]) -> list[Finding]:
    metric, models = metric_of(rows[0]), _models(rows)
    findings = [_shrinks(models, metric), _overfits(models, metric)]
    few = models.get(_ONE, [])
    if len(few) > 2 and (lead := lead_at_end(few[-2], few[0], metric)):
        text = _ends(few[-2], few[0], lead, metric)
        findings.append(Finding(SMALL_STILL_GAIN, text, lead.mean > 0, lead.p))
    return [finding for finding in findings if finding is not None]


_Pair = tuple[EvaluatedModel, EvaluatedModel]


def _largest_of(share: float, models: dict[float, list[EvaluatedModel]]) -> tuple[_Pair, _Pair] | None:
    """(smaller, larger) of the two largest sizes with a share of the data, and the same with all of them;
    None where these are not the same sizes, for example since a training has not ended."""
    few, whole = (models.get(part, [])[-2:] for part in (share, 1.0))
    if len(few) < 2 or [model.key[0] for model in few] != [model.key[0] for model in whole]:
        return None
    return (few[0], few[1]), (whole[0], whole[1])


def _shrinks(models: dict[float, list[EvaluatedModel]], metric: Metric) -> Finding | None:
    """None where the larger size does not lead with all data: there is no lead that could be smaller."""
    if (pairs := _largest_of(_FIVE, models)) is None:
        return None
    lead, before = (lead_at_end(larger, smaller, metric) for smaller, larger in pairs)
    if lead is None or before is None or before.mean <= 0:
        return None
    change, (smaller, larger) = change_of(lead, before), pairs[0]
    text = (
        f"the lead of {larger.key[0]} over {smaller.key[0]} after {_seconds(larger)} is {before} "
        f"{_unit(metric)} with all data and {lead} with 5 % of them, a change of {change}"
    )
    supports = change.mean < 0
    return Finding(SMALLER_LEAD, text, supports, _largest(before.p, change.p) if supports else change.p)


def _overfits(models: dict[float, list[EvaluatedModel]], metric: Metric) -> Finding | None:
    """That the largest size ends worse than the next smaller one, with a smaller lead than with all data, and
    worse than it was before. All of it has to be resolved for the claim, one part against it (Bonferroni)."""
    if (pairs := _largest_of(_ONE, models)) is None:
        return None
    (smaller, larger), _ = pairs
    lead, whole = (lead_at_end(pair[1], pair[0], metric) for pair in pairs)
    before = lead_of(_best_before(larger, metric), larger.end.rows, metric)
    if lead is None or whole is None or before is None:
        return None
    change = change_of(lead, whole)
    parts = [(lead.mean < 0, lead.p), (change.mean < 0, change.p), (before.mean > 0, before.p)]
    text = (
        f"{_ends(larger, smaller, lead, metric)}, a change of {change} from all data; the best evaluation of "
        f"{larger.key[0]} before its end is {before} better than its end{_gaps(larger, smaller)}"
    )
    supports = all(agrees for agrees, _ in parts)
    p = _largest(*(p for _, p in parts))
    if not supports and p is not None:
        p = min(1.0, len(parts) * min(each or 0.0 for agrees, each in parts if not agrees))
    return Finding(OVERFITS, text, supports, p)


def _best_before(model: EvaluatedModel, metric: Metric) -> list[Row]:
    """The best evaluation of each training before its end."""
    trainings: dict[int, list[Row]] = {}
    for row in model.rows:
        if not row["end"]:
            trainings.setdefault(row["seed"], []).append(row)
    return [metric.best(rows, lambda row: float(row["value"])) for rows in trainings.values()]


def _largest(*values: float | None) -> float | None:
    """The largest p-value; None where one cannot be tested."""
    tested = [value for value in values if value is not None]
    return max(tested) if len(tested) == len(values) else None


def _ends(larger: EvaluatedModel, smaller: EvaluatedModel, lead: Lead, metric: Metric) -> str:
    return (
        f"with 1 % of the data {larger.key[0]} ends at {larger.end.mean:.4f} {_unit(metric)} and "
        f"{smaller.key[0]} at {smaller.end.mean:.4f} after {_seconds(larger)}, a lead of {lead}"
    )


def _gaps(larger: EvaluatedModel, smaller: EvaluatedModel) -> str:
    if larger.gap is None or smaller.gap is None:
        return ""
    return (
        f"; held-out minus training loss is {larger.gap:+.2f} nats a prediction for {larger.key[0]} and "
        f"{smaller.gap:+.2f} for {smaller.key[0]}"
    )


def _seconds(model: EvaluatedModel) -> str:
    return f"{model.end.number('training_seconds'):,.0f} s"


def _unit(metric: Metric) -> str:
    return metric.name.replace("_", " ")


def _table(rows: list[Row]) -> Table:
    metric = metric_of(rows[0])
    table = Table(title=f"{metric.name} on {rows[0]['set']} after training on a share of the data")
    for name in ("share", "size", "passes", "at the end", "at best", "loss", "training loss", "gap"):
        table.add_column(name, justify="left" if name == "size" else "right")
    for share, models in _models(rows).items():
        best = best_of((model.end.mean for model in models), metric)
        for model in models:
            table.add_row(
                f"{100 * share:g} %",
                model.key[0],
                _number(model.number("epoch"), ".1f"),
                f"{model.end}{' *' if model.end.mean == best else ''}",
                f"{model.best(metric):.4f}",
                *(_number(model.number(column), ".3f") for column in ("loss", "training_loss")),
                _number(model.gap, "+.3f"),
            )
    table.caption = (
        "passes: over the share of the data; * best of its share; losses in nats a prediction, that of "
        "training over the last updates, with dropout where there is any"
    )
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _sentences(rows: list[Row]) -> list[str]:
    metric = metric_of(rows[0])
    texts = [_best_of(share, models, metric) for share, models in _models(rows).items()]
    texts += as_sentences(_findings(rows))
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts


def _best_of(share: float, models: list[EvaluatedModel], metric: Metric) -> str:
    part = "all data" if share == 1 else f"{100 * share:g} % of the data"
    if failing := [model for model in models if not model.passes(metric)]:
        names, row = ", ".join(model.key[0] for model in failing), failing[0].rows[0]
        return (
            f"With {part} the sizes are not comparable yet: {names} {'is' if len(failing) == 1 else 'are'} "
            f"no better than the {row['gate_name']} of the same data, {float(row['gate']):.4f}."
        )
    best = best_of((model.end.mean for model in models), metric)
    first = next(model for model in models if model.end.mean == best)
    before = [model.key[0] for model in models if metric.better(model.best(metric), model.end.mean)]
    return f"With {part} {first.key[0]} ends best, at {first.end}" + (
        f"; {', '.join(before)} had been better before." if before else "."
    )


def _panels(rows: list[Row]) -> list[list[list[Row]]]:
    """A plot for each share."""
    shares = dict.fromkeys(row["data_share"] for row in rows)
    return [[[row for row in rows if row["data_share"] == share] for share in shares]]


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, share = metric_of(rows[0]), float(rows[0]["data_share"])
    for number, (size, trainings) in enumerate(curves_of(rows, "training_seconds").items()):
        draw_curves(axes, trainings, size, color=f"C{number}", marker="o", markersize=3)
    if (gate := rows[0].get("gate")) is not None:
        axes.axhline(float(gate), color="grey", linestyle="--", label=plain(str(rows[0]["gate_name"])))
    axes.set(
        xlabel="training seconds",
        ylabel=plain(f"{_unit(metric)} on {rows[0]['set']}"),
        title="all data" if share == 1 else f"{100 * share:g} % of the data",
    )
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=8)


DATA_SHARE = Exhibit(
    "share of the data",
    _rows,
    _table,
    _sentences,
    _draw,
    (SMALLER_LEAD, OVERFITS, SMALL_STILL_GAIN),
    _findings,
    _panels,
)
