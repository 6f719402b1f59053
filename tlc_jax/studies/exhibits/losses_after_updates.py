"""What sizes lose by compression after about as many updates: the control of what they lose after as much
time (paper 4.2 and 4.3; section 4.4 asks whether larger models lose less because they are undertrained).

In the same time a small model makes more updates, and a model that is trained for longer loses more by
compression. Each size is compared with the next larger one, and the smallest with the largest, at those marks
of both at which the numbers of updates are nearest, if these are within a factor of two. The loss is that of
`compression_losses`, by 4 bits, as in the paper, and by the lowest sparsity at once. Dense models have to be
better than their gate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import DENSE, Loss, ModelKey, compressed_rows, losses, models_of
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.picture import draw_means, logarithmic_x, plain
from tlc_jax.studies.statistics import contrast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEAR = 2.0  # a factor of updates
_JUDGED_BITS = 4

AFTER_UPDATES = Claim(
    "larger-loses-less-after-updates",
    "After about as many updates, a larger model loses less than a smaller one by quantization to 4 bits and "
    "by pruning.",
    "sections 4.2 to 4.4: the control of figures 6 and 12 by figure 8",
)
_Mark = tuple[str, str]
"""A size and a mark."""


def _rows(store: ItemStore) -> list[Row]:
    """The models of all marks that are judged, and the dense ones, where two sizes have near numbers of
    updates."""
    rows = [row for row in compressed_rows(store) if not row["recovered"] and row["as_long_as"] is None]
    pruned = min((row["sparsity"] for row in rows if row["sparsity"]), default=None)
    judged = {(DENSE, 0.0), (_JUDGED_BITS, 0.0), (DENSE, pruned)}
    rows = [row for row in rows if (row["bits"], row["sparsity"]) in judged and row.get("step")]
    return rows if any(_pairs(rows)) else []


def _updates(rows: list[Row]) -> dict[_Mark, float]:
    """The updates of each size at each mark, the mean over its trainings."""
    steps: dict[_Mark, list[float]] = {}
    for row in rows:
        steps.setdefault((row["size"], row["mark"]), []).append(float(row["step"]))
    return {mark: sum(each) / len(each) for mark, each in steps.items()}


def _pairs(rows: list[Row]) -> Iterator[tuple[Loss, Loss]]:
    """The losses of a size and of a larger one by the same compression, after the nearest updates."""
    updates, models = _updates(rows), models_of(rows)
    dense = {(key[0], key[1]) for key, model in models.items() if _is_dense(key) and model.passes}
    by_mark = {(loss.size, loss.mark, loss.compression): loss for loss in losses(rows)}
    sizes = list(dict.fromkeys(size for size, _ in updates))
    ends = [(sizes[0], sizes[-1])] if len(sizes) > 2 else []
    for two in (*itertools.pairwise(sizes), *ends):
        marks = [[mark for mark in updates if mark[0] == size and mark in dense] for size in two]
        apart = {
            pair: abs(math.log(updates[pair[0]] / updates[pair[1]])) for pair in itertools.product(*marks)
        }
        nearest = min(apart, key=lambda pair: apart[pair], default=None)
        if nearest is None or apart[nearest] > math.log(_NEAR):
            continue
        for compression in dict.fromkeys(loss.compression for loss in losses(rows)):
            pair = [by_mark.get((*mark, compression)) for mark in nearest]
            if pair[0] and pair[1]:
                yield pair[0], pair[1]


def _is_dense(key: ModelKey) -> bool:
    return key[2] == DENSE and not key[3]


def _findings(rows: list[Row]) -> list[Finding]:
    findings, updates = [], _updates(rows)
    for smaller, larger in _pairs(rows):
        tested = contrast([(1.0, smaller.by_training), (-1.0, larger.by_training)])
        after = [f"{updates[loss.size, loss.mark]:,.0f} updates" for loss in (larger, smaller)]
        text = (
            f"{larger.compression}: {larger.size} loses {larger} {_unit(rows)} after {after[0]}, and "
            f"{smaller.size} {smaller} after {after[1]}; {smaller.size} minus {larger.size}: "
            f"{tested or f'{smaller.mean - larger.mean:+.4f}'}"
        )
        findings.append(Finding(AFTER_UPDATES, text, larger.mean < smaller.mean, tested and tested.p))
    return findings


def _unit(rows: list[Row]) -> str:
    return str(rows[0]["metric"]).replace("_", " ")


def _table(rows: list[Row]) -> Table:
    table, updates = (
        Table(title=f"Loss by compression over updates, {_unit(rows)} on {rows[0]['set']}"),
        _updates(rows),
    )
    for name in ("size", "mark", "updates", "compression", "loss"):
        table.add_column(name, justify="right" if name in ("updates", "loss") else "left")
    for loss in losses(rows):
        mark = loss.size, loss.mark
        table.add_row(*mark, f"{updates[mark]:,.0f}", loss.compression, str(loss))
    return table


def _sentences(rows: list[Row]) -> list[str]:
    return as_sentences(_findings(rows))


def _panels(rows: list[Row]) -> list[list[list[Row]]]:
    """One for quantization, one for pruning, where there are any."""
    kinds = ([row for row in rows if not row["sparsity"]], [row for row in rows if row["bits"] == DENSE])
    return [[panel for panel in kinds if losses(panel)]]


def _draw(axes: Axes, rows: list[Row]) -> None:
    updates, curves = _updates(rows), dict[str, list[Loss]]()
    for loss in losses(rows):
        curves.setdefault(loss.size, []).append(loss)
    for size, curve in curves.items():
        curve.sort(key=lambda loss: updates[loss.size, loss.mark])
        at = [updates[loss.size, loss.mark] for loss in curve]
        draw_means(axes, at, [loss.by_training for loss in curve], size)
    axes.set(
        xlabel="updates",
        ylabel=plain(f"loss by compression, {_unit(rows)}"),
        title=next(iter(curves.values()))[0].compression,
    )
    logarithmic_x(axes)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.legend(fontsize=8)


LOSSES_AFTER_UPDATES = Exhibit(
    "compression after as many updates",
    _rows,
    _table,
    _sentences,
    _draw,
    (AFTER_UPDATES,),
    _findings,
    _panels,
)
