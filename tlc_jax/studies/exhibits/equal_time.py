"""Which size is best for each budget of time: every size finished at the same marks (paper 3, figures 2 to 5,
and 4.1).

The sizes at a mark are compared only if all of them are better than counts. The best is the one with the best
mean over seeds; the next one is tested against it by Welch's t-test over seeds, corrected for the number of
marks (Holm), where both have several seeds. Seconds of different devices are not compared.

Seeds say nothing of the measured times of an update, which decide what equal time is. So beside each test
it is said how much longer the updates of the best model might take until it is no better than the next, and
an order that the uncertainty of these times could turn is not called resolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import (
    Measured,
    above_gate,
    grouped,
    metric_of,
    share,
    size_order,
    tuning_rows,
)
from tlc_jax.studies.one_device import of_one_device
from tlc_jax.studies.picture import draw_means, logarithmic_losses, logarithmic_x, plain
from tlc_jax.studies.slack import slack
from tlc_jax.studies.statistics import LEVEL, holm, welch
from tlc_jax.studies.timing_errors import apart, with_timing_errors
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def measurements(store: ItemStore) -> list[Row]:
    """The last evaluations of finished runs: of branches where there are, else of whole runs. None of a study
    whose runs have something else in common than their time, nor of variants with a budget of their own."""
    finished = [row for row in store.rows() if row.get("last") and row["stage"] in ("train", "branch")]
    finished = [row for row in finished if "budget." not in row["variant"]]
    if any(row.get("equal") for row in finished):
        return []
    stage = "branch" if any(row["stage"] == "branch" for row in finished) else "train"
    items = {row["item"] for row in finished if row["stage"] == stage}
    rows = tuning_rows(store, lambda row: bool(row.get("last")) and row["item"] in items)
    return with_timing_errors(of_one_device(rows, store), store)


def _name(model: Measured) -> str:
    size, variant, *_ = model.key
    return f"{size} {variant}".strip()


def by_mark(rows: list[Row]) -> dict[str, list[Measured]]:
    """The models at each mark, in the order of time and then of size."""
    models: dict[str, list[Measured]] = {}
    rows = sorted(rows, key=lambda row: (share(row["mark"]), size_order(row["size"])))
    for model in grouped(rows, ("size", "variant", "mark")):
        models.setdefault(str(model.key[2]), []).append(model)
    return models


def _best_first(models: list[Measured], metric: Metric) -> list[Measured]:
    return sorted(models, key=lambda model: -model.mean if metric.higher_is_better else model.mean)


def _common_gate(rows: list[Row]) -> float | None:
    """The gate of all models; None where there is none, or shares of the data have gates of their own."""
    gates = {row.get("gate") for row in rows}
    [gate] = gates if len(gates) == 1 else (None,)
    return None if gate is None else float(gate)


def _table(rows: list[Row]) -> Table:
    metric, marks = metric_of(rows[0]), by_mark(rows)
    table = Table(title=f"{metric.name} on {rows[0]['set']} at equal time")
    table.add_column("seconds", justify="right")
    names = list(dict.fromkeys(_name(model) for models in marks.values() for model in models))
    for name in names:
        table.add_column(name, justify="right")
    for models in marks.values():
        starred = len(models) > 1 and not above_gate(models, metric)
        best = _best_first(models, metric)[0]
        cells = {_name(model): f"{model}{' *' if model is best and starred else ''}" for model in models}
        seconds = max(model.number("training_seconds") for model in models)
        table.add_row(f"{seconds:,.0f}", *(cells.get(name, "") for name in names))
    gate = _common_gate(rows)
    about = ["* best, where all are comparable"] if len(names) > 1 else []
    table.caption = "; ".join(about if gate is None else [*about, f"{rows[0]['gate_name']} {gate:.4f}"])
    return table


def _sentences(rows: list[Row]) -> list[str]:
    metric, marks = metric_of(rows[0]), by_mark(rows)
    comparable = {mark: models for mark, models in marks.items() if not above_gate(models, metric)}
    texts = []
    if skipped := [models for mark, models in marks.items() if mark not in comparable]:
        above = "; ".join(_above(models, metric) for models in skipped)
        texts.append(
            f"Not comparable yet {above}: no better than the {rows[0]['gate_name']}, so counts of tokens "
            "predict as well. Train for longer."
        )
    ordered = {mark: _best_first(models, metric) for mark, models in comparable.items() if len(models) > 1}
    tests = {
        mark: welch(best.values, second.values)
        for mark, (best, second, *_) in ordered.items()
        if min(len(best.values), len(second.values)) > 1
    }
    corrected = dict(zip(tests, holm([1.0 if p is None else p for p in tests.values()]), strict=True))
    for mark, (best, second, *_) in ordered.items():
        seconds = max(model.number("training_seconds") for model in marks[mark])
        text = f"At {seconds:,.0f} s {_name(best)} is best, {best}; next {_name(second)}, {second}"
        if mark not in corrected:
            single = "one seed each" if len(best.values) == len(second.values) else "one seed of one of them"
            texts.append(f"{text}: {single}, so another seed may turn the order.")
        else:
            p = corrected[mark]
            resolved = "resolved" if p < LEVEL else "not resolved"
            texts.append(f"{text}: {resolved} over seeds, p = {p:.2g}{_slack(rows, best, second, p)}.")
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts


def _above(models: list[Measured], metric: Metric) -> str:
    """Which of the models at a mark are no better than their gate."""
    above = above_gate(models, metric)
    names = ", ".join(map(_name, above)) if len(above) < len(models) else "all sizes"
    return f"at {max(model.number('training_seconds') for model in models):,.0f} s ({names})"


def _slack(rows: list[Row], best: Measured, second: Measured, p: float) -> str:
    metric = metric_of(rows[0])
    models = [model for at_mark in by_mark(rows).values() for model in at_mark if _name(model) == _name(best)]
    if metric.higher_is_better or len(models) == 1:
        return ""
    curve = [(model.number("training_seconds"), model.mean) for model in models]
    times = slack(curve, best.number("training_seconds"), second.mean)
    if times is None:
        return ""
    text, known = f"it would be no better if its updates took {times:.2f} times as long", apart(best, second)
    if times > known:
        return f"; {text}"
    verdict = ", but not resolved over times of an update" if p < LEVEL else ""
    return f"{verdict}; {text}, and the ratio of both times is only known to {known:.2f}"


def _draw(axes: Axes, rows: list[Row]) -> None:
    models = [model for at_mark in by_mark(rows).values() for model in at_mark]
    for name in dict.fromkeys(_name(model) for model in models):
        curve = [model for model in models if _name(model) == name]
        seconds = [model.number("training_seconds") for model in curve]
        draw_means(axes, seconds, [model.values for model in curve], name)
    if (gate := _common_gate(rows)) is not None:
        axes.axhline(gate, color="grey", linestyle="--", label=plain(str(rows[0]["gate_name"])))
    axes.set(
        xlabel="training seconds, the same for all sizes",
        ylabel=plain(f"{rows[0]['metric']} on {rows[0]['set']}".replace("_", " ")),
        title="Train: equal time",
    )
    logarithmic_losses(axes, str(rows[0]["metric"]))
    if len({row["mark"] for row in rows}) > 1:
        logarithmic_x(axes)
    axes.legend(fontsize=8)


EQUAL_TIME = Exhibit("equal time", measurements, _table, _sentences, _draw)
