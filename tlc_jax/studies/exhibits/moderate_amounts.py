"""Whether a moderate amount of pruning and of quantization is better than more of one of them (paper 4.3:
"prune 30-40% of the weights and then quantize the model to 6-8 bits"; figures 7 and 12, right).

For each size, the best model that was pruned and quantized in moderation is compared with the best of those
of the same trainings that take no more bytes and were quantized only or pruned only. Both are chosen on the
tuning set. Bytes are counted twice: those of the file, which says where the weights are that are left, and
the paper's, non-zeros x bits / 8 (footnote 7). Where a study prunes in rounds with a dense control, the
control quantized is one of the models that were quantized only. Few numbers of bits favour both: give a
study such as have nearly as many bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import DENSE, amount_of, compressed_rows
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured, above_gate, grouped, metric_of, share
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.statistics import Contrast, contrast
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PRUNED, _QUANTIZED = (0.3, 0.45), (6, 8)  # the paper's levels of 30 and 45 %
_BYTES = {"file_bytes": "bytes of the file", "paper_bytes": "non-zeros x bits / 8"}
_COLUMNS = ("size", "bits", "sparsity", "recovered", "as_long_as")

MODERATE = Claim(
    "moderate-amounts-of-both",
    "A model that is pruned to 30 to 45 % and quantized to 6 to 8 bits is better than one of as many bytes "
    "that is quantized only or pruned only.",
    "section 4.3, figure 7",
)


@dataclass(frozen=True)
class _Pair:
    """The best model of a size that is pruned and quantized in moderation, and the best of as many bytes that
    is one of both only."""

    both: Measured
    alone: Measured
    counted: str

    def difference(self) -> tuple[float, Contrast | None]:
        """`both` less `alone`: of the same trainings."""
        values = [dict(zip(_seeds(model), model.values, strict=True)) for model in (self.both, self.alone)]
        of_seeds = np.array([values[0][seed] - values[1][seed] for seed in values[0] if seed in values[1]])
        return self.both.mean - self.alone.mean, contrast([(1.0, of_seeds)]) if len(of_seeds) else None


def _seeds(model: Measured) -> list[int]:
    return list(dict.fromkeys(int(row["seed"]) for row in model.rows))


def _rows(store: ItemStore) -> list[Row]:
    """The compressed models of the last mark, where some are pruned and quantized in moderation."""
    rows = [
        row for row in compressed_rows(store) if row["tuning"] is not None and _BYTES.keys() <= row.keys()
    ]
    last = max((share(row["mark"]) for row in rows), default=1.0)
    rows = [row for row in rows if share(row["mark"]) == last]
    return rows if _pairs(rows) else []


def _pairs(rows: Sequence[Row]) -> list[_Pair]:
    pairs = []
    models = grouped(rows, _COLUMNS)
    for size in dict.fromkeys(model.key[0] for model in models):
        of_size = [model for model in models if model.key[0] == size]
        moderate = [model for model in of_size if _is_moderate(model)]
        alone = [model for model in of_size if model.key[1] == DENSE or not model.key[2]]
        for counted in _BYTES if moderate else ():
            both = _best(moderate)
            fitting = [model for model in alone if model.number(counted) <= both.number(counted)]
            if fitting:
                pairs.append(_Pair(both, _best(fitting), counted))
    return pairs


def _is_moderate(model: Measured) -> bool:
    _, bits, sparsity, _, _ = model.key
    return _QUANTIZED[0] <= bits <= _QUANTIZED[1] and _PRUNED[0] <= sparsity <= _PRUNED[1]


def _best(models: list[Measured]) -> Measured:
    return metric_of(models[0].rows[0]).best(models, lambda model: model.number("tuning"))


def _findings(rows: list[Row]) -> list[Finding]:
    metric, findings = metric_of(rows[0]), list[Finding]()
    for pair in _pairs(rows):
        if above_gate([pair.both, pair.alone], metric):
            continue
        mean, tested = pair.difference()
        text = (
            f"{pair.both.key[0]}, {_named(pair.both)}: {pair.both} {metric.name.replace('_', ' ')}; "
            f"{_named(pair.alone)}, no larger in {_BYTES[pair.counted]}: {pair.alone}; the first minus the "
            f"second: {tested or f'{mean:+.4f}'}"
        )
        supports = metric.better(pair.both.mean, pair.alone.mean)
        findings.append(Finding(MODERATE, text, supports, tested and tested.p))
    return findings


def _named(model: Measured) -> str:
    _, bits, sparsity, recovered, as_long_as = model.key
    return " and ".join(filter(None, (amount_of(sparsity, recovered, as_long_as), f"{bits} bits")))


def _table(rows: list[Row]) -> Table:
    metric = metric_of(rows[0])
    table = Table(title=f"Both in moderation, and one of both: {metric.name} on {rows[0]['set']}")
    for name in ("size", "both", "kB", "", "one of both", "kB", "", "counted as"):
        table.add_column(name, justify="right" if name in ("kB", "") else "left")
    for pair in _pairs(rows):
        cells = []
        for model in (pair.both, pair.alone):
            mark = " -" if above_gate([model], metric) else ""
            cells += [_named(model), f"{model.number(pair.counted) / 1000:,.0f}", f"{model}{mark}"]
        table.add_row(pair.both.key[0], *cells, _BYTES[pair.counted])
    if any(above_gate([pair.both, pair.alone], metric) for pair in _pairs(rows)):
        table.caption = "- no better than the gate, not judged"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    return as_sentences(_findings(rows))


def _frontier(models: list[Measured], metric: Metric) -> list[Measured]:
    """Each is better on the tuning set than all of fewer bytes."""
    best: list[Measured] = []
    for model in sorted(models, key=lambda each: each.number("file_bytes")):
        if not best or metric.better(model.number("tuning"), best[-1].number("tuning")):
            best.append(model)
    return best


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, models = metric_of(rows[0]), grouped(rows, _COLUMNS)
    for number, size in enumerate(dict.fromkeys(model.key[0] for model in models)):
        of_size = [model for model in models if model.key[0] == size]
        kinds = {
            "quantized": [model for model in of_size if not model.key[2]],
            "pruned": [model for model in of_size if model.key[1] == DENSE],
            "all": of_size,
        }
        for style, (kind, chosen) in zip((":", "--", "o-"), kinds.items(), strict=True):
            frontier = _frontier(chosen, metric)
            axes.plot(
                [model.number("file_bytes") / 1000 for model in frontier],
                [model.mean for model in frontier],
                style,
                markersize=3,
                color=f"C{number}",
                label=plain(f"{size}, {kind}"),
            )
    axes.set(
        xlabel="kilobytes of the file",
        ylabel=plain(f"{metric.name} on {rows[0]['set']}".replace("_", " ")),
        xscale="log",
        title="Quantized, pruned, or both",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=7)


MODERATE_AMOUNTS = Exhibit(
    "moderate amounts of both", _rows, _table, _sentences, _draw, (MODERATE,), _findings
)
