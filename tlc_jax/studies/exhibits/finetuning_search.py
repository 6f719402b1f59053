"""The search of finetunings: what each combination reaches on the tuning set, and how much the choice matters
beside the noise of seeds (paper D).

A seed here is that of a finetuning: of the new head and of the order of the examples. The best of many
combinations is partly luck; what luck alone would give is said beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy  # whose parts are imported where they are used, which takes a second
from jaxtyping import Float
from rich.table import Table

from tlc_jax.core.printable import counted
from tlc_jax.studies.chosen import TUNING, best_finetuned
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Result, Row
from tlc_jax.studies.measured import metric_of, primary, size_order
from tlc_jax.studies.picture import plain
from tlc_jax.studies.statistics import LEVEL, holm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRAINING = ("size", "variant", "seed", "mark")
_DEALS = 20_000  # a permutation test's


def _rows(store: ItemStore) -> list[Row]:
    """The primary metric of every finetuning on the tuning set, and whether its combination was `chosen` for
    its training; nothing without a choice."""
    trainings: dict[tuple[object, ...], list[Result]] = {}
    for result in store.results():
        if result["stage"] == "finetune":
            trainings.setdefault(_training(result), []).append(result)
    rows: list[Row] = []
    for finetunings in trainings.values():
        chosen = best_finetuned(finetunings)
        for result in finetunings:
            about: Row = {**result["fields"], "chosen": result["fields"]["combination"] == chosen}
            about |= dict(zip(_TRAINING, _training(result), strict=True))
            whole = ({**about, **row} for row in result["rows"])
            rows += [row for row in whole if row.get("last") and row["set"] == TUNING and primary(row)]
    if len({row["combination"] for row in rows}) < 2:
        return []
    return sorted(rows, key=lambda row: (size_order(row["size"]), row["variant"]))


def _training(result: Result) -> tuple[object, ...]:
    """What the finetunings of one training have in common; a given checkpoint is one, without a seed."""
    fields = {**result["fields"], **({"seed": 0} if "checkpoint" in result["fields"] else {})}
    return tuple(fields[name] for name in _TRAINING)


@dataclass(frozen=True)
class Search:
    """The search of one size. `values` are by combination those of its finetunings, less the mean of their
    training and plus that of all. `noise` is the standard deviation of the seeds of one combination of one
    training; None where each has one seed."""

    name: str
    values: dict[str, Float[np.ndarray, "finetunings"]]
    chosen: tuple[str, ...]
    noise: float | None

    @property
    def means(self) -> dict[str, float]:
        return {combination: float(values.mean()) for combination, values in self.values.items()}

    @property
    def p(self) -> float | None:
        """How likely combinations that are all alike would differ as much: Kruskal and Wallis's statistic, of
        ranks, since a rate that is too high spoils a few by much, when the values are dealt out at random. Of
        two combinations of three seeds no p is below 0.1."""
        if self.noise is None:
            return None
        samples = list(self.values.values())
        ranks = scipy.stats.rankdata(np.concatenate(samples))
        ends = np.cumsum([len(sample) for sample in samples])[:-1]

        def statistic(dealt: Float[np.ndarray, "deals finetunings"]) -> Float[np.ndarray, "deals"]:
            groups = np.split(dealt, ends, axis=1)
            return np.sum([group.sum(axis=1) ** 2 / group.shape[1] for group in groups], axis=0)

        dealt = np.random.default_rng(0).permuted(np.tile(ranks, (_DEALS, 1)), axis=1)
        as_much = statistic(dealt) >= statistic(ranks[None]) - 1e-9
        return float((1 + as_much.sum()) / (1 + _DEALS))

    @property
    def luck(self) -> float | None:
        """How far the best of as many alike combinations is above their middle, by the noise of seeds alone
        (Blom 1958)."""
        if self.noise is None:
            return None
        count = len(self.values)
        seeds = float(np.mean([len(values) for values in self.values.values()]))
        return float(scipy.stats.norm.ppf((count - 0.375) / (count + 0.25))) * self.noise / seeds**0.5


def searches(rows: list[Row]) -> list[Search]:
    """Of each size and variant."""
    by_size: dict[str, list[Row]] = {}
    for row in rows:
        by_size.setdefault(f"{row['size']} {row['variant']}".strip(), []).append(row)
    return [_search(name, of_size) for name, of_size in by_size.items()]


def _search(name: str, rows: list[Row]) -> Search:
    trainings: dict[object, list[float]] = {}
    cells: dict[object, list[float]] = {}
    for row in rows:
        training = row["seed"], row["mark"]
        trainings.setdefault(training, []).append(row["value"])
        cells.setdefault((training, row["combination"]), []).append(row["value"])
    whole = float(np.mean([row["value"] for row in rows]))
    values: dict[str, list[float]] = {}
    for row in rows:
        level = float(np.mean(trainings[row["seed"], row["mark"]]))
        values.setdefault(row["combination"], []).append(row["value"] - level + whole)
    chosen = dict.fromkeys(str(row["combination"]) for row in rows if row["chosen"])
    arrays = {combination: np.array(numbers) for combination, numbers in values.items()}
    return Search(name, arrays, tuple(chosen), _noise(list(cells.values())))


def _noise(cells: list[list[float]]) -> float | None:
    """The standard deviation within cells, pooled."""
    degrees = sum(len(cell) - 1 for cell in cells)
    squares = sum(float(np.var(cell)) * len(cell) for cell in cells)
    return float(np.sqrt(squares / degrees)) if degrees else None


def _sentences(rows: list[Row]) -> list[str]:
    metric, made = metric_of(rows[0]), searches(rows)
    tested = {each.name: each.p for each in made if each.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    texts = []
    for each in made:
        means = sorted(each.means.values(), reverse=metric.higher_is_better)
        gain = abs(means[0] - float(np.median(means)))
        text = (
            f"{each.name}: {', '.join(each.chosen)} is chosen of {counted(len(means), 'combination')}; by "
            f"{metric.name} on {TUNING} the best has {means[0]:.4f}, {gain:.4f} from the median, the worst "
            f"{means[-1]:.4f}"
        )
        if each.noise is None:
            texts.append(f"{text}. One seed each: how much of it is noise is not known.")
            continue
        p = corrected[each.name]
        matters = f"the choice {'matters' if p < LEVEL else 'does not stand out from them'}, p = {p:.2g}"
        texts.append(
            f"{text}. Seeds of one combination differ by {each.noise:.4f} (standard deviation), which alone "
            f"would put the best {each.luck:.4f} from the median: {matters}."
        )
    return texts


def _table(rows: list[Row]) -> Table:
    metric, made = metric_of(rows[0]), searches(rows)
    table = Table(title=f"Search of finetunings: {metric.name} on {TUNING}")
    table.add_column("combination")
    for each in made:
        table.add_column(each.name, justify="right")
    for combination in dict.fromkeys(row["combination"] for row in rows):
        table.add_row(combination, *(_cell(each, combination) for each in made))
    table.caption = "mean ± standard deviation over seeds of the finetuning; * chosen"
    return table


def _cell(each: Search, combination: str) -> str:
    values = each.values.get(combination)
    if values is None:
        return ""
    spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{spread}{' *' if combination in each.chosen else ''}"


def _draw(axes: Axes, rows: list[Row]) -> None:
    """Combinations by rank, each size a curve; bars are the standard deviation of seeds."""
    metric = metric_of(rows[0])
    for each in searches(rows):
        order = sorted(each.values, key=lambda name: each.means[name], reverse=metric.higher_is_better)
        spread = [each.values[name].std(ddof=1) if len(each.values[name]) > 1 else 0.0 for name in order]
        means = [each.means[name] for name in order]
        ranks = range(1, len(order) + 1)
        axes.errorbar(ranks, means, yerr=spread, fmt="o-", markersize=3, capsize=2, label=plain(each.name))
    axes.set(
        xlabel="combinations, the best first",
        ylabel=plain(f"{metric.name} on {TUNING}"),
        title="Search of finetunings",
    )
    axes.legend(fontsize=8)


FINETUNING_SEARCH = Exhibit("search of finetunings", _rows, _table, _sentences, _draw)
