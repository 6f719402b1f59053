"""What quantization and pruning change in each kind of matrix, and how much of it the initialiser explains
(paper 5.3, figure 9).

The paper's figure has the absolute errors of trained networks alone. Those of networks before their first
update differ between sizes, too, wherever the initialiser scales with the width. So the errors of two sizes
are compared as their ratios to those of the same networks before training, which is what training has
changed; and only after equally many updates, since weights move with each of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.printable import counted
from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.compression_errors import ALL, PAPER_BITS
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import above_gate, grouped, metric_of, share, size_order, tuning_rows
from tlc_jax.studies.picture import plain
from tlc_jax.studies.size_families import families
from tlc_jax.studies.statistics import LEVEL, difference_interval, holm, welch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERRORS = {"absolute_error": "mean |v - w|", "relative_error": "||v - w|| / ||w||"}
_PAPER = str(QuantSpec(PAPER_BITS, "tensor", "minmax", "float"))

QUANTIZATION = Claim(
    "quantization-error",
    "Quantizing to 4 bits changes the weights of larger models less, beyond what initial values explain.",
    "5.3, figure 9",
)
PRUNING = Claim(
    "pruning-error",
    "Pruning 60 % changes the weights of larger models less, beyond what initial values explain.",
    "5.3, figure 9",
)


def _rows(kind: str, store: ItemStore) -> list[Row]:
    """The errors of the models of the last mark whose errors were measured, each with what was compressed
    (`method`), the `updates` of its training, and whether its size is better than its gate (`comparable`)."""
    rows = [row for row in store.rows(stage="errors", kind=kind) if row["module"] != ALL]
    marks = [row["mark"] for row in rows]
    rows = [row for row in rows if row["mark"] == max(marks, key=share)]
    trained = [row for row in store.rows(last=True) if row["stage"] in ("train", "branch")]
    updates = {_training(row): row["step"] for row in trained}
    above = _above_gate(rows, store)
    rows.sort(key=lambda row: (size_order(row["size"]), row["variant"]))
    return [
        {
            **row,
            "model": f"{row['size']} {row['variant']}".strip(),
            "method": _method(row),
            "updates": updates.get(_training(row)),
            "comparable": (row["size"], row["variant"]) not in above,
        }
        for row in rows
    ]


def _training(row: Row) -> tuple[Any, ...]:
    return row["size"], row["variant"], row["seed"], row["mark"]


def _method(row: Row) -> str:
    if row["kind"] == "prune":
        return f"{100 * row['sparsity']:g} % pruned"
    spec = str(QuantSpec(row["bits"], row["granularity"], row["range"], row["zero"]))
    return f"{spec} (paper)" if spec == _PAPER else spec


def _above_gate(rows: list[Row], store: ItemStore) -> set[tuple[Any, ...]]:
    """(size, variant) of the models that are not better than their gate on the set for decisions."""
    models = {(*_training(row), row.get("combination"), row.get("finetuning_seed")) for row in rows}

    def measured(row: Row) -> bool:
        model = (*_training(row), row.get("combination"), row.get("finetuning_seed"))
        return bool(row.get("last")) and model in models

    values = tuning_rows(store, lambda row: "mark" in row and measured(row))
    return {
        model.key
        for model in grouped(values, ("size", "variant"))
        if above_gate([model], metric_of(model.rows[0]))
    }


@dataclass(frozen=True)
class Comparison:
    """The error of a method in the smallest and in the largest size of a family. Factors are those of the
    larger size by those of the smaller one: `trained`, `untrained`, and `left`, which is their ratio, with an
    interval over trainings."""

    method: str
    error: str
    small: str
    large: str
    trained: float
    untrained: float
    interval: tuple[float, float] | None
    p: float | None
    updates: int
    judged: bool

    @property
    def left(self) -> float:
        return self.trained / self.untrained

    def __str__(self) -> str:
        covered = f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]" if self.interval else ""
        return (
            f"{self.method}, {ERRORS[self.error]}: {self.large} has {self.trained:.2f} of that of "
            f"{self.small}, and before training {self.untrained:.2f}; a factor of {self.left:.2f}{covered} "
            "is left to training"
        )


def comparisons(rows: list[Row]) -> list[Comparison]:
    """Of each variant, method, error and family of sizes: depths of one width, widths of one depth. None of a
    single size."""
    made = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        of_variant = [row for row in rows if row["variant"] == variant]
        sizes = list(dict.fromkeys(row["size"] for row in of_variant))
        of_families = [(family[0], family[-1]) for family in families(sizes).values() if len(family) > 1]
        methods = dict.fromkeys(row["method"] for row in of_variant)
        for method, error, ends in itertools.product(methods, ERRORS, of_families):
            of_error = [row for row in of_variant if (row["method"], row["metric"]) == (method, error)]
            small, large = ([row for row in of_error if row["size"] == size] for size in ends)
            made.append(_compare(method, error, small, large))
    return made


def _compare(method: str, error: str, small: list[Row], large: list[Row]) -> Comparison:
    (small_before, small_after), (large_before, large_after) = (_logarithms(rows) for rows in (small, large))
    left = (large_after - large_before, small_after - small_before)
    covered = difference_interval(*left)
    return Comparison(
        method,
        error,
        small[0]["model"],
        large[0]["model"],
        trained=math.exp(large_after.mean() - small_after.mean()),
        untrained=math.exp(large_before.mean() - small_before.mean()),
        interval=(math.exp(covered[0]), math.exp(covered[1])) if covered else None,
        p=welch(*left) if covered else None,
        updates=small[0]["updates"],
        judged=_equal_updates([*small, *large]) and all(row["comparable"] for row in (*small, *large)),
    )


def _logarithms(rows: list[Row]) -> tuple[Float[np.ndarray, "seeds"], Float[np.ndarray, "seeds"]]:
    """(before, after) training, of each seed: the mean over kinds of matrices of the logarithm of the error,
    so that depth does not change their weights. Kinds without an error before training are left out."""
    unmeasured = {row["module"] for row in rows if not row["value"]}
    values = [{**row, "value": math.log(row["value"])} for row in rows if row["module"] not in unmeasured]
    before, after = (
        np.mean(
            [kind.values for kind in grouped((r for r in values if r["untrained"] is flag), ("module",))],
            axis=0,
        )
        for flag in (True, False)
    )
    return before, after


def _equal_updates(rows: Iterable[Row]) -> bool:
    return len({row["updates"] for row in rows}) == 1


def _sentences(rows: list[Row]) -> list[str]:
    made = comparisons(rows)
    tested = [each for each in made if each.judged and each.p is not None]
    corrected = dict(zip(map(id, tested), holm([float(each.p or 0) for each in tested]), strict=True))
    texts = []
    for each in made:
        text = str(each)
        if (p := corrected.get(id(each))) is not None:
            text += f", {'resolved' if p < LEVEL else 'not resolved'} over trainings, p = {p:.2g}"
        elif each.judged:
            text += ": one training of one of them, so another may turn it"
        texts.append(f"{text}.")
    if not made:
        return ["One size: errors that fall with the size take several."]
    if not _equal_updates(rows):
        updates = dict.fromkeys(f"{row['model']} {row['updates']:,}" for row in rows)
        texts.append(
            f"Not judged: weights move with each update, and the sizes had different numbers of them "
            f"({', '.join(updates)}). Give a study train.budget.steps without training-seconds."
        )
    if above := list(dict.fromkeys(row["model"] for row in rows if not row["comparable"])):
        texts.append(
            f"Not judged: {', '.join(above)} {'is' if len(above) == 1 else 'are'} no better than counts, so "
            "it is not known what these weights are good for. Train for longer."
        )
    kinds = counted(len({row["module"] for row in rows}), "kind")
    texts.append(
        f"w is a weight and v the compressed one. Factors are geometric means over {kinds} of matrices; an "
        "interval covers the mean over other trainings with a probability of 95 %."
    )
    return texts


def _findings(claim: Claim, rows: list[Row]) -> list[Finding]:
    """Of the paper's method, for absolute and for relative errors."""
    return [
        Finding(claim, f"{each}, after {each.updates:,} updates", supports=each.left < 1, p=each.p)
        for each in comparisons(rows)
        if each.judged and (each.method.endswith("(paper)") or rows[0]["kind"] == "prune")
    ]


def _table(rows: list[Row]) -> Table:
    models = list(dict.fromkeys(row["model"] for row in rows))
    table = Table(title="Errors of compressed weights by kind of matrix")
    for name in ("compression", "error", "matrix"):
        table.add_column(name)
    for model in models:
        table.add_column(model, justify="right")
    table.caption = "mean ± standard deviation over the layers, in brackets that before the first update"
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        lines.setdefault((row["method"], row["metric"], row["module"]), []).append(row)
    order = {method: number for number, method in enumerate(dict.fromkeys(key[0] for key in lines))}
    for method, error, module in sorted(lines, key=lambda key: (order[key[0]], key[1])):
        line = lines[method, error, module]
        cells = (_cell([row for row in line if row["model"] == model]) for model in models)
        table.add_row(method, ERRORS[error], _named(module), *cells)
    return table


def _cell(rows: list[Row]) -> str:
    """'' where a model has no such matrix."""
    before, after = ([row for row in rows if row["untrained"] is flag] for flag in (True, False))
    if not after:
        return ""
    layers = f" ± {_mean(after, 'deviation'):.1g}" if after[0]["tensors"] > 1 else ""
    return f"{_mean(after, 'value'):.3g}{layers} ({_mean(before, 'value'):.3g})"


def _mean(rows: list[Row], column: str) -> float:
    return float(np.mean([row[column] for row in rows]))


def _named(module: str) -> str:
    return module.replace("layers/", "").removesuffix("/kernel").replace("_", " ")


def _draw(axes: Axes, rows: list[Row]) -> None:
    """Absolute errors of the first method, as in figure 9, with outlines for those before training."""
    chosen = [row for row in rows if row["metric"] == "absolute_error" and row["method"] == rows[0]["method"]]
    modules, models = (list(dict.fromkeys(row[name] for row in chosen)) for name in ("module", "model"))
    height = 0.8 / len(models)
    for number, model in enumerate(models):
        for before in (False, True):
            bars = [row for row in chosen if (row["model"], row["untrained"]) == (model, before)]
            indices = [index for index, name in enumerate(modules) if any(r["module"] == name for r in bars)]
            of_place = [[row for row in bars if row["module"] == modules[index]] for index in indices]
            at = [index + (number - (len(models) - 1) / 2) * height for index in indices]
            means = [_mean(each, "value") for each in of_place]
            if before:
                label = "before training" if model == models[-1] else None
                style: dict[str, Any] = {"fill": False, "edgecolor": "black", "linewidth": 0.7}
                axes.barh(at, means, height, label=label, zorder=3, **style)
            else:
                spread = [_mean(each, "deviation") for each in of_place]
                style = {"color": f"C{number}", "error_kw": {"linewidth": 0.7}}
                axes.barh(at, means, height, xerr=spread, label=plain(model), **style)
    axes.set_yticks(range(len(modules)), [plain(_named(module)) for module in modules], fontsize=6)
    axes.set_ylim(len(modules) - 0.5, -0.5)
    axes.set(title=rows[0]["method"], xlabel="mean |v - w|; lines: ± standard deviation over layers")
    axes.legend(fontsize=7)


QUANTIZATION_ERROR = Exhibit(
    "quantization error by module",
    partial(_rows, "quantize"),
    _table,
    _sentences,
    _draw,
    (QUANTIZATION,),
    partial(_findings, QUANTIZATION),
)
PRUNING_ERROR = Exhibit(
    "pruning error by module",
    partial(_rows, "prune"),
    _table,
    _sentences,
    _draw,
    (PRUNING,),
    partial(_findings, PRUNING),
)
