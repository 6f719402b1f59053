"""Whether a moderate amount of pruning and of quantization is better than more of one of them (paper 4.3:
"prune 30-40% of the weights and then quantize the model to 6-8 bits"; figures 7 and 12, right).

For each size, each model that was pruned (in rounds, where a study does that) and quantized in moderation is
compared with the best of those of the same trainings that take nearly as many bytes, 90 to 100 % of its own,
and were quantized only or pruned only; it is chosen on the tuning set. Bytes alone say which models are
compared, never how good they are. They are counted twice: those of the file, which says where the weights are
that are left, and the paper's, non-zeros x bits / 8 (footnote 7). Where a study prunes in rounds with a dense
control, the control quantized is one of the models that were quantized only. A model that no other meets in
bytes is not judged: give a study numbers of bits and sparsities that have nearly as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from rich.table import Table

from tlc_jax.core.printable import three_digits
from tlc_jax.studies.as_many_bytes import frontier, kilobytes
from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import AT_ONCE, DENSE, amount_of, compressed_rows
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured, above_gate, grouped, metric_of, share
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.statistics import contrast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PRUNED, _QUANTIZED = (0.3, 0.45), (6, 8)  # the paper's levels of 30 and 45 %
_BYTES = {"file_bytes": "bytes of the file", "paper_bytes": "non-zeros x bits / 8"}
_NEARLY = 0.9
_COLUMNS = ("size", "bits", "sparsity", "recovered", "as_long_as")

MODERATE = Claim(
    "moderate-amounts-of-both",
    "A model that is pruned to 30 to 45 % and quantized to 6 to 8 bits is better than one of as many bytes "
    "that is quantized only or pruned only.",
    "section 4.3, figure 7",
)


@dataclass(frozen=True)
class _Pair:
    """A model that is pruned and quantized in moderation, and the best of nearly as many bytes that is one of
    both only."""

    both: Measured
    alone: Measured
    counts: tuple[str, ...]
    """How the bytes are counted, of both ways of counting that choose this pair."""

    def of_seeds(self) -> Float[np.ndarray, "trainings"]:
        """`both` less `alone` of each training that has both."""
        values = [dict(zip(_seeds(model), model.values, strict=True)) for model in (self.both, self.alone)]
        return np.array([values[0][seed] - values[1][seed] for seed in values[0] if seed in values[1]])

    def bytes_of(self, model: Measured) -> str:
        """In each way of counting."""
        return ", ".join(f"{kilobytes(model.number(count))} ({_BYTES[count]})" for count in self.counts)


def _seeds(model: Measured) -> list[int]:
    return list(dict.fromkeys(int(row["seed"]) for row in model.rows))


def _rows(store: ItemStore) -> list[Row]:
    """The compressed models of the last mark, where some are pruned and quantized in moderation."""
    rows = [
        row for row in compressed_rows(store) if row["tuning"] is not None and _BYTES.keys() <= row.keys()
    ]
    last = max((share(row["mark"]) for row in rows), default=1.0)
    rows = [row for row in rows if share(row["mark"]) == last]
    return rows if _moderate(grouped(rows, _COLUMNS)) else []


def _pairs(rows: Sequence[Row]) -> list[_Pair]:
    pairs, models = list[_Pair](), grouped(rows, _COLUMNS)
    for both in _moderate(models):
        alone = [m for m in models if m.key[0] == both.key[0] and (m.key[1] == DENSE or not m.key[2])]
        chosen: dict[tuple[object, ...], _Pair] = {}
        for count in _BYTES:
            most = both.number(count)
            if nearly := [m for m in alone if _NEARLY * most <= m.number(count) <= most]:
                best = _best(nearly)
                before = chosen[best.key].counts if best.key in chosen else ()
                chosen[best.key] = _Pair(both, best, (*before, count))
        pairs += chosen.values()
    return pairs


def _moderate(models: Sequence[Measured]) -> list[Measured]:
    """Those that are both in moderation; pruned in rounds where any are."""

    def moderate(model: Measured) -> bool:
        _, bits, sparsity, _, _ = model.key
        return _QUANTIZED[0] <= bits <= _QUANTIZED[1] and _PRUNED[0] <= sparsity <= _PRUNED[1]

    chosen = list(filter(moderate, models))
    return [model for model in chosen if model.key[3]] or chosen


def _tuned(model: Measured) -> float:
    return model.number("tuning")


def _file_bytes(model: Measured) -> float:
    return model.number("file_bytes")


def _best(models: list[Measured]) -> Measured:
    return metric_of(models[0].rows[0]).best(models, _tuned)


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each pair of trainings in common."""
    metric, findings = metric_of(rows[0]), list[Finding]()
    for pair in _pairs(rows):
        of_seeds = pair.of_seeds()
        if not len(of_seeds) or above_gate([pair.both, pair.alone], metric):
            continue
        mean, tested = float(of_seeds.mean()), contrast([(1.0, of_seeds)])
        text = (
            f"{pair.both.key[0]}, {_named(pair.both)}: {pair.both} {metric.name.replace('_', ' ')}, "
            f"{pair.bytes_of(pair.both)}; {_named(pair.alone)}: {pair.alone}, {pair.bytes_of(pair.alone)}; "
            f"the first minus the second: {tested or f'{mean:+.4f}'}{'' if pair.both.key[3] else AT_ONCE}"
        )
        findings.append(Finding(MODERATE, text, metric.better(mean, 0.0), tested and tested.p))
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
            cells += [
                _named(model),
                " / ".join(three_digits(model.number(count) / 1000) for count in pair.counts),
                f"{model}{mark}",
            ]
        table.add_row(pair.both.key[0], *cells, " / ".join(_BYTES[count] for count in pair.counts))
    if any(above_gate([pair.both, pair.alone], metric) for pair in _pairs(rows)):
        table.caption = "- no better than the gate, not judged"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    texts, met = as_sentences(_findings(rows)), {pair.both.key for pair in _pairs(rows)}
    if left := [model for model in _moderate(grouped(rows, _COLUMNS)) if model.key not in met]:
        names = "; ".join(f"{model.key[0]}, {_named(model)}" for model in left)
        texts.append(
            f"Not judged, since no model that is one of both only has nearly as many bytes: {names}."
        )
    return texts


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
            best = frontier(chosen, metric, _tuned, _file_bytes)
            axes.plot(
                [_file_bytes(model) / 1000 for model in best],
                [model.mean for model in best],
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
