"""What a trunk with branches is worth beside runs that were planned for one budget, and what a point that is
cut from a longer run is worth beside both.

A point of a curve over training time, as in the paper's figures 2 to 5, is cut from a longer schedule, whose
rate has not fallen yet. A branch of a trunk is finished, but its rate stays at the peak for four fifths of
its budget. So each needs its control: a run of the same size whose rate falls over the whole of that budget.
In a study of trunks these runs are variants with a budget of their own, such as
schedule.cooldown=None,budget.training_seconds=300.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured, above_gate, grouped, metric_of, share, size_order, tuning_rows
from tlc_jax.studies.picture import draw_means, logarithmic_losses, plain
from tlc_jax.studies.statistics import LEVEL, difference_interval, holm, welch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BRANCH, PLANNED, CUT = "branch of a trunk", "planned for this budget", "cut from a longer run"
MARGIN = 0.01  # share of a planned run's value; a branch that is worse by less is as good
_NEAR = 0.02  # budgets that differ by a smaller share are the same
_OF_THE_PLAN = ("schedule.", "budget.", "evaluation.", "checkpoint.")

BRANCHES = Claim(
    "branch-as-good-as-plan",
    "A branch that finishes a trunk is at least as good as a run whose rate falls over the whole of the same "
    "budget, less 1 % of its value.",
    "Hägele et al. 2024, arXiv 2405.18392; the control of every study with marks",
)
CUTS = Claim(
    "cut-is-worse-than-plan",
    "A point that is cut from a run with a longer schedule is worse than a run that was planned for its "
    "budget.",
    "Hoffmann et al. 2022, arXiv 2203.15556, appendix B; probably, the curves of figures 2 to 5 are such "
    "points",
)


def _rows(store: ItemStore) -> list[Row]:
    """The values of branches, of runs that were planned to end where a branch ends, and of points of longer
    such runs (`kind`), of each size and mark at which there are branches and planned runs, for each schedule
    of these (`plan`)."""
    rows = tuning_rows(store, lambda row: row["stage"] in ("train", "branch"))
    branches = [row for row in rows if row["stage"] == "branch" and row["last"]]
    trunks = {(row["size"], row["variant"]) for row in branches}
    plans = [row for row in rows if row["stage"] == "train" and (row["size"], row["variant"]) not in trunks]
    on_one_device = () if store.rows(stage="timing") else ("device",)  # seconds of a timing are those of all
    matched: list[Row] = []
    for branch in branches:
        models = [row for row in plans if _same_model(row, branch, ("size", "seed", *on_one_device))]
        same = [row for row in models if _same_budget(row, branch)]
        for plan in dict.fromkeys(_schedule(row) for row in same if row["last"]):
            points = [row for row in same if _schedule(row) == plan]
            about = {"mark": branch["mark"], "trunk": branch["variant"], "plan": plan}
            matched.append({**branch, **about, "kind": BRANCH})
            matched += [{**row, **about, "kind": PLANNED} for row in points if row["last"]]
            matched += [{**row, **about, "kind": CUT} for row in _of_the_longest(points, models, branch)]
    return matched


def _schedule(row: Row) -> str:
    """The options of a variant that are of its schedule; its budget is none of them."""
    return ",".join(part for part in str(row["variant"]).split(",") if part.startswith("schedule."))


def _same_model(plan: Row, branch: Row, columns: tuple[str, ...]) -> bool:
    """Whether both agree in these columns, and in the options of their variants but for the schedule."""
    kept = [part for part in str(plan["variant"]).split(",") if not part.startswith(_OF_THE_PLAN)]
    return ",".join(kept) == branch["variant"] and all(plan[name] == branch[name] for name in columns)


def _same_budget(row: Row, branch: Row) -> bool:
    """Whether both have been trained as long, up to an update: a run ends after a whole number of them."""
    seconds = float(branch["training_seconds"])
    update = seconds / branch["step"]
    return abs(float(row["training_seconds"]) - seconds) < max(_NEAR * seconds, 1.5 * update)


def _of_the_longest(points: list[Row], plans: list[Row], branch: Row) -> list[Row]:
    """Of the points of runs with a larger budget than that of the branch, that of the run with the largest: a
    run of the same budget may be evaluated just before its end."""
    longer = {row["variant"]: row for row in plans if row["last"] and _ends_later(row, branch)}
    cut = [row for row in points if row["variant"] in longer]
    return [max(cut, key=lambda row: float(longer[row["variant"]]["training_seconds"]))] if cut else []


def _ends_later(end: Row, branch: Row) -> bool:
    later = float(end["training_seconds"]) > float(branch["training_seconds"])
    return later and not _same_budget(end, branch)


@dataclass(frozen=True, eq=False)  # compared by identity
class _Budget:
    """The models of one size at one mark and one plan, by kind."""

    size: str
    models: dict[str, Measured]

    @property
    def seconds(self) -> float:
        return self.models[BRANCH].number("training_seconds")

    def pairs(self) -> Iterator[tuple[str, Measured, Measured]]:
        """(kind, its model, the planned one) of those that are comparable: both better than counts."""
        planned = self.models[PLANNED]
        metric = metric_of(planned.rows[0])
        for kind in (BRANCH, CUT):
            if kind in self.models and not above_gate([self.models[kind], planned], metric):
                yield kind, self.models[kind], planned


def _budgets(rows: list[Row]) -> list[_Budget]:
    """By size and then by time."""
    rows = sorted(rows, key=lambda row: (size_order(row["size"]), row["trunk"], share(row["mark"])))
    budgets: dict[tuple[object, ...], dict[str, Measured]] = {}
    for model in grouped(rows, ("size", "trunk", "mark", "plan", "kind")):
        *key, kind = model.key
        budgets.setdefault(tuple(key), {})[str(kind)] = model
    several = len({row["plan"] for row in rows}) > 1
    return [
        _Budget(f"{size} {trunk}".strip() + (f", plan {plan}" if several else ""), models)
        for (size, trunk, _, plan), models in budgets.items()
    ]


def _table(rows: list[Row]) -> Table:
    table = Table(title=f"{rows[0]['metric']} on {rows[0]['set']} by schedule")
    table.add_column("size")
    for name in ("seconds", BRANCH, PLANNED, CUT):
        table.add_column(name, justify="right")
    for budget in _budgets(rows):
        cells = [str(budget.models.get(kind, "")) for kind in (BRANCH, PLANNED, CUT)]
        table.add_row(budget.size, f"{budget.seconds:,.0f}", *cells)
    if (gate := rows[0].get("gate")) is not None:
        table.caption = f"{rows[0]['gate_name']} {float(gate):.4f}"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    budgets = _budgets(rows)
    pairs = [(budget, *pair) for budget in budgets for pair in budget.pairs()]
    tested = [(model.values, planned.values) for *_, model, planned in pairs if _testable(model, planned)]
    corrected = iter(holm([welch(*values) or 1.0 for values in tested]))
    texts = []
    for budget, kind, model, planned in pairs:
        judged = "one seed, so another may turn it"
        if _testable(model, planned):
            p = next(corrected)
            judged = f"{'resolved' if p < LEVEL else 'not resolved'} over seeds, p = {p:.2g}"
        texts.append(f"{_effect(budget, kind, model, planned)}: {judged}.")
    if left_out := [budget for budget in budgets if not list(budget.pairs())]:
        names = ", ".join(f"{budget.size} at {budget.seconds:,.0f} s" for budget in left_out)
        texts.append(f"Not comparable yet: {names}, no better than the {rows[0]['gate_name']}.")
    return texts


def _testable(one: Measured, other: Measured) -> bool:
    return min(len(one.values), len(other.values)) > 1


def _effect(budget: _Budget, kind: str, model: Measured, planned: Measured) -> str:
    """The difference to the planned run, with its interval over seeds."""
    metric = metric_of(planned.rows[0]).name.replace("_", " ")
    text = f"{budget.size} at {budget.seconds:,.0f} s: {kind} - planned = {model.mean - planned.mean:+.4f}"
    if (covered := difference_interval(model.values, planned.values)) is not None:
        text += f" [{covered[0]:+.4f}, {covered[1]:+.4f}]"
    return f"{text} {metric}"


def _findings(rows: list[Row]) -> list[Finding]:
    return [
        _branch_finding(budget, model, planned) if kind == BRANCH else _cut_finding(budget, model, planned)
        for budget in _budgets(rows)
        for kind, model, planned in budget.pairs()
    ]


def _branch_finding(budget: _Budget, branch: Measured, planned: Measured) -> Finding:
    """Against a run that is worse than the planned one by the margin: that two are equal is no difference
    that a test could find."""
    metric, margin = metric_of(planned.rows[0]), MARGIN * abs(planned.mean)
    bound = planned.values + (-margin if metric.higher_is_better else margin)
    return Finding(
        claim=BRANCHES,
        effect=f"{_effect(budget, BRANCH, branch, planned)}; the margin is {margin:.4f}",
        supports=metric.better(branch.mean, float(bound.mean())),
        p=welch(branch.values, bound) if _testable(branch, planned) else None,
    )


def _cut_finding(budget: _Budget, cut: Measured, planned: Measured) -> Finding:
    return Finding(
        claim=CUTS,
        effect=_effect(budget, CUT, cut, planned),
        supports=metric_of(planned.rows[0]).better(planned.mean, cut.mean),
        p=welch(cut.values, planned.values) if _testable(cut, planned) else None,
    )


def _draw(axes: Axes, rows: list[Row]) -> None:
    budgets = _budgets(rows)
    styles = {BRANCH: "o-", PLANNED: "s--", CUT: "x:"}
    for number, size in enumerate(dict.fromkeys(budget.size for budget in budgets)):
        for kind, style in styles.items():
            curve = [b for b in budgets if b.size == size and kind in b.models]
            models = [budget.models[kind] for budget in curve]
            draw_means(
                axes,
                [budget.seconds for budget in curve],
                [model.values for model in models],
                f"{size}, {kind}",
                fmt=style,
                color=f"C{number}",
            )
    axes.set(
        xlabel="training seconds",
        ylabel=plain(f"{rows[0]['metric']} on {rows[0]['set']}".replace("_", " ")),
        xscale="log",
        title="Schedules: equal time",
    )
    logarithmic_losses(axes, str(rows[0]["metric"]))
    for setter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        setter("{x:g}")
    axes.legend(fontsize=8)


SCHEDULES = Exhibit("schedules", _rows, _table, _sentences, _draw, (BRANCHES, CUTS), _findings)
