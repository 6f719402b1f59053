"""How the best size grows with the budget: curves of equal time over sizes, where the larger of two sizes
overtakes, and the exponent of the optimum (not in the paper, which compares sizes at single budgets; its
figures 2 and 10 have the same curves over time).

That the best size grows is tested as two differences at once: the size that is best at the first budget is
better there than the one that is best at the last, and worse at the last. Both have to be significant.

The optimum of a budget is that of the parabola through the best size and its two neighbours, over the
logarithm of the number of parameters. It is not extrapolated: where the best size is the smallest or the
largest of the study, that is all that is said. Its interval is that over seeds, if each has one inside. The
exponent of the optimum is fitted for each seed on its
own, since the points of one training at several budgets are not independent of each other.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.exhibits import equal_time
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured, above_gate, metric_of, primary_fields
from tlc_jax.studies.picture import logarithmic_losses, logarithmic_x, plain
from tlc_jax.studies.statistics import difference_interval, interval, welch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST = 3  # sizes of a curve, and optima of an exponent

GROWS = Claim(
    "best-size-grows-with-budget",
    "The more time there is, the larger is the size that is best after it.",
    "not in the paper, whose figures 2 and 4 have the curves; Kaplan et al. 2020, Hoffmann et al. 2022",
)
DIMINISHES = Claim(
    "returns-diminish",
    "The largest size is worse after as much time than the next smaller one.",
    'section 3, "Returns Diminish As Size Increases"',
)


def _rows(store: ItemStore) -> list[Row]:
    """A row for each mark and size, in the order of time and then of parameters: the mean over seeds, and for
    the best size of a mark the `optimum` in parameters, where it is inside."""
    counts = {row["size"]: row["parameters"] for row in store.rows() if "parameters" in row}
    measured = [
        {**row, "parameters": counts[row["size"]]}
        for row in equal_time.measurements(store)
        if row["size"] in counts and not row["variant"]
    ]
    rows: list[Row] = []
    for mark, models in equal_time.by_mark(measured).items():
        if len(models) < _FEWEST:
            continue
        models = sorted(models, key=lambda model: model.number("parameters"))
        rows += [_row(mark, model, models) for model in models]
    return rows


def _row(mark: str, model: Measured, models: list[Measured]) -> Row:
    metric = metric_of(model.rows[0])
    best = metric.best(models, lambda each: each.mean)
    return {
        "mark": mark,
        "size": model.key[0],
        "parameters": model.number("parameters"),
        "training_seconds": max(each.number("training_seconds") for each in models),
        "set": model.rows[0]["set"],
        **primary_fields(metric),
        "metric": metric.name,
        "value": model.mean,
        "values": _by_seed(model),
        "seeds": len(model.values),
        "comparable": not above_gate([model], metric),
        "best": model is best,
        **(_optima(models) if model is best and not metric.higher_is_better else {"optimum": None}),
    }


def _optima(models: list[Measured]) -> Row:
    """The optimum of the means, and those of the seeds where all models have as many."""
    parameters = [each.number("parameters") for each in models]
    several = len({len(each.values) for each in models}) == 1 and len(models[0].values) > 1
    by_seed = zip(*(_by_seed(each) for each in models), strict=True) if several else ()
    return {
        "optimum": optimum(parameters, [each.mean for each in models]),
        "optima": [optimum(parameters, list(losses)) for losses in by_seed],
    }


def _by_seed(model: Measured) -> list[float]:
    """Its values in the order of the names of the seeds."""
    seeds = dict.fromkeys(row.get("seed") for row in model.rows)
    pairs = sorted(zip(seeds, model.values.tolist(), strict=True), key=lambda pair: str(pair[0]))
    return [value for _, value in pairs]


def optimum(parameters: list[float], losses: list[float]) -> float | None:
    """The number of parameters at the lowest point of the parabola through the lowest loss and its two
    neighbours, over the logarithm of `parameters`, which rise; None if the lowest loss is at an end."""
    lowest = int(np.argmin(losses))
    if lowest in (0, len(losses) - 1):
        return None
    x = np.log(parameters[lowest - 1 : lowest + 2])
    second, first, _ = np.polyfit(x - x[1], losses[lowest - 1 : lowest + 2], 2)
    return float(np.exp(x[1] - first / (2 * second))) if second > 0 else None


def overtaking(rows: list[Row]) -> list[tuple[str, str, float]]:
    """(smaller, larger, seconds) of neighbouring sizes whose curves over time cross: seconds by interpolation
    over their logarithm between two marks, at which both are comparable."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    values = {(row["size"], row["mark"]): row["value"] for row in rows if row["comparable"]}
    seconds = {row["mark"]: row["training_seconds"] for row in rows}
    crossings = []
    for smaller, larger in itertools.pairwise(sizes):
        marks = [mark for mark in seconds if (smaller, mark) in values and (larger, mark) in values]
        gaps = [values[larger, mark] - values[smaller, mark] for mark in marks]
        for (mark, gap), (later, next_gap) in itertools.pairwise(zip(marks, gaps, strict=True)):
            if gap > 0 >= next_gap:
                part = gap / (gap - next_gap)
                start, end = math.log(seconds[mark]), math.log(seconds[later])
                crossings.append((smaller, larger, math.exp(start + part * (end - start))))
    return crossings


def exponent(rows: list[Row]) -> float | None:
    """The slope of the logarithm of the optimum over that of the seconds; None with fewer than three optima
    that are inside."""
    points = [(math.log(row["training_seconds"]), math.log(row["optimum"])) for row in rows if row["optimum"]]
    if len(points) < _FEWEST:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def _table(rows: list[Row]) -> Table:
    table = Table(title=f"The best size at each budget, by {rows[0]['metric']} on {rows[0]['set']}")
    for name in ("seconds", "best size", "parameters", "optimum in parameters"):
        table.add_column(name, justify="right")
    above = {row["mark"] for row in rows if not row["comparable"]}
    for row in (row for row in rows if row["best"]):
        table.add_row(
            f"{row['training_seconds']:,.0f}",
            f"{row['size']}{' -' if row['mark'] in above else ''}",
            f"{row['parameters']:,.0f}",
            _optimum_text(row),
        )
    table.caption = "- some sizes are no better than their gate there" if above else None
    return table


def _optimum_text(row: Row) -> str:
    """The optimum of the means with the interval of those of the seeds, over their logarithm."""
    if row["optimum"] is None:
        return "at an end of the sizes"
    text, optima = f"{row['optimum']:,.0f}", row.get("optima") or []
    if ends := optima.count(None):
        return f"{text} (at an end of the sizes in {ends} of {len(optima)} seeds)"
    covered = interval(np.log(optima)) if optima else None
    return text if covered is None else f"{text} [{np.exp(covered[0]):,.0f}, {np.exp(covered[1]):,.0f}]"


def _sentences(rows: list[Row]) -> list[str]:
    texts = [
        f"{larger} overtakes {smaller} at about {seconds:,.0f} s."
        for smaller, larger, seconds in overtaking(rows)
    ]
    above = {row["mark"] for row in rows if not row["comparable"]}
    best = [row for row in rows if row["best"] and row["mark"] not in above]
    sizes = list(dict.fromkeys(row["size"] for row in best))
    if len(sizes) > 1:
        texts.append(f"The best size moves with the budget: {', then '.join(sizes)}.")
    elif sizes:
        times = ", ".join(f"{row['training_seconds']:,.0f} s{_sure(row, rows)}" for row in best)
        texts.append(f"The best size is {sizes[0]} wherever sizes are comparable: at {times}.")
    texts += _power_of_time(rows, best)
    if best and max(row["seeds"] for row in best) == 1:
        texts.append("One seed of each size: these orders are not tested against other seeds.")
    return texts


def _sure(best: Row, rows: list[Row]) -> str:
    """In how many seeds it is the best; '' in all of them."""
    others = [row for row in rows if row["mark"] == best["mark"] and row["seeds"] == best["seeds"]]
    metric, several = metric_of(best), range(best["seeds"])
    best_in = [metric.best(others, lambda row, seed=seed: row["values"][seed]) is best for seed in several]
    return "" if all(best_in) else f" (by its mean; best in {sum(best_in)} of {len(best_in)} seeds)"


def _power_of_time(rows: list[Row], best: list[Row]) -> list[str]:
    """A sentence on the exponent of the optimum: over seeds where there are several, else of the means."""
    if slopes := exponents(rows):
        covered = interval(np.array(slopes)) or (-math.inf, math.inf)
        resolved = covered[0] > 0 or covered[1] < 0
        text = f"{np.mean(slopes):.2f} [{covered[0]:.2f}, {covered[1]:.2f}]"
        changes = ("grows" if covered[0] > 0 else "falls") if resolved else "changes"
        return [
            f"The optimum {changes} with the budget to the power of {text}, the mean of {len(slopes)} seeds "
            f"with its interval{'' if resolved else ': no trend is resolved'}."
        ]
    if (slope := exponent(best)) is None:
        return []
    changes = "grows" if slope > 0 else "falls"
    return [f"The optimum of the means {changes} with the budget to the power of {slope:.2f}, untested."]


def exponents(rows: list[Row]) -> list[float]:
    """The exponent of the optimum of each seed, of the sizes and budgets of `_judged`; none unless all have
    as many seeds, several, and each seed has an exponent."""
    marks = _judged(rows)
    counts = {len(row["values"]) for by_size in marks for row in by_size}
    if len(counts) != 1 or metric_of(marks[0][0]).higher_is_better:
        return []
    slopes = []
    for seed in range(counts.pop()):
        optima = []
        for by_size in marks:
            losses = [row["values"][seed] for row in by_size]
            lowest = optimum([row["parameters"] for row in by_size], losses)
            optima.append({"training_seconds": by_size[0]["training_seconds"], "optimum": lowest})
        slopes.append(exponent(optima))
    return [] if None in slopes else slopes


def findings(rows: list[Row]) -> list[Finding]:
    """Of the sizes and budgets of `_judged`."""
    marks = _judged(rows)
    if not marks:
        return []
    return [*([_growth(marks[0], marks[-1])] if len(marks) > 1 else []), _diminishing(marks[-1])]


def _judged(rows: list[Row]) -> list[list[Row]]:
    """The rows of each budget, in the order of parameters: of sizes that have several seeds at every budget,
    at budgets at which all of these are comparable."""
    single = {row["size"] for row in rows if row["seeds"] == 1}
    tested = [row for row in rows if row["size"] not in single]
    above = {row["mark"] for row in tested if not row["comparable"]}
    by_mark: dict[str, list[Row]] = {}
    for row in tested:
        if row["mark"] not in above:
            by_mark.setdefault(row["mark"], []).append(row)
    return [by_size for by_size in by_mark.values() if len(by_size) > 1]


def _growth(first: list[Row], last: list[Row]) -> Finding:
    """Of the budgets of two marks, between the sizes that are best at each."""
    small, large = (_best(by_size)["size"] for by_size in (first, last))
    if small == large:
        return Finding(GROWS, f"{small} is best at {_seconds(first)} and at {_seconds(last)}", False, None)
    pairs = [[_of_size(size, by_size) for size in (large, small)] for by_size in (first, last)]
    texts = [f"{_apart(*pair)} at {_seconds(pair)}" for pair in pairs]
    p_values = [welch(np.array(one["values"]), np.array(other["values"])) for one, other in pairs]
    supports = pairs[0][0]["parameters"] > pairs[0][1]["parameters"]
    return Finding(
        GROWS,
        f"{small} is best at {_seconds(first)} and {large} at {_seconds(last)}: {', and '.join(texts)}",
        supports,
        max(1.0 if p is None else p for p in p_values),
    )


def _diminishing(last: list[Row]) -> Finding:
    """Of the largest size and the next one, in the order of parameters."""
    second, largest = last[-2:]
    supports = _best([second, largest]) is second
    p = welch(np.array(largest["values"]), np.array(second["values"]))
    return Finding(DIMINISHES, f"{_apart(largest, second)} at {_seconds(last)}", supports, p)


def _apart(one: Row, other: Row) -> str:
    """Two sizes with the difference of their means and its interval."""
    covered = difference_interval(np.array(one["values"]), np.array(other["values"]))
    text = f" [{covered[0]:+.4f}, {covered[1]:+.4f}]" if covered else ""
    difference = one["value"] - other["value"]
    return f"{one['size']} minus {other['size']} {difference:+.4f}{text} {one['metric']}"


def _best(by_size: list[Row]) -> Row:
    return metric_of(by_size[0]).best(by_size, lambda each: each["value"])


def _of_size(size: str, rows: list[Row]) -> Row:
    return next(row for row in rows if row["size"] == size)


def _seconds(rows: list[Row]) -> str:
    return f"{rows[0]['training_seconds']:,.0f} s"


def _draw(axes: Axes, rows: list[Row]) -> None:
    for mark in dict.fromkeys(row["mark"] for row in rows):
        curve = [row for row in rows if row["mark"] == mark and row["comparable"]]
        if not curve:
            continue
        label = f"{curve[0]['training_seconds']:,.0f} s"
        parameters, values = [row["parameters"] for row in curve], [row["value"] for row in curve]
        [line] = axes.plot(parameters, values, "o-", markersize=4, label=label)
        for row in curve:
            if row["best"]:
                axes.plot(row["parameters"], row["value"], "*", markersize=12, color=line.get_color())
    axes.set(
        xlabel="parameters",
        ylabel=plain(f"{rows[0]['metric']} on {rows[0]['set']}".replace("_", " ")),
        title="Best size: equal time over sizes",
    )
    logarithmic_x(axes)
    logarithmic_losses(axes, rows[0]["metric"])
    axes.legend(fontsize=8, title="budget")


BEST_SIZE = Exhibit(
    "best size", _rows, _table, _sentences, _draw, claims=(GROWS, DIMINISHES), findings=findings
)
