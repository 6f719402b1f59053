"""What each size loses by quantization alone and by pruning alone (paper 4.2, 4.3 and 5.3, figures 6 and 12).

The loss of a training is how much worse it is compressed than before, in the unit of the metric (nats per
byte, or a share of right answers); after pruning in rounds, than the dense model that was trained as long,
where that was measured. The largest size is compared with the smallest of those that have several trainings
and whose dense models are better than their gate, at each number of bits and at each sparsity, after as long
a training, in which the larger has fewer updates (`losses_after_updates` is the control). These two are
chosen before anything is compressed: a model that compression makes no better than its gate has a loss, too.
Pruning in rounds is judged only against dense models that were trained as long, since the rounds train.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import AT_ONCE, DENSE, Loss, compressed_rows, losses, models_of
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import share
from tlc_jax.studies.picture import draw_means, plain
from tlc_jax.studies.statistics import contrast, interval, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTIZES = Claim(
    "larger-quantizes-better",
    "A larger model loses less than a smaller one by quantization to as many bits.",
    "section 4.2, figure 6 (left), figure 12 (left)",
)
PRUNES = Claim(
    "larger-prunes-better",
    "A larger model loses less than a smaller one by pruning of as large a share of its weights.",
    "section 4.3, figure 6 (right), figure 12 (center)",
)


def _rows(store: ItemStore) -> list[Row]:
    """The compressed models of the last mark; none for fewer than two sizes."""
    rows = compressed_rows(store)
    last = max((share(row["mark"]) for row in rows), default=1.0)
    rows = [row for row in rows if share(row["mark"]) == last]
    return rows if len({loss.size for loss in _alone(rows)}) > 1 else []


def _alone(rows: Sequence[Row]) -> list[Loss]:
    """The losses by quantization alone, then those by pruning alone."""
    alone = [loss for loss in (losses(rows) if rows else []) if not loss.sparsity or loss.bits == DENSE]
    return sorted(alone, key=lambda loss: (loss.sparsity, loss.recovered, -loss.bits))


def _by_compression(rows: list[Row]) -> dict[str, list[Loss]]:
    """The losses of all sizes by one compression."""
    by_compression: dict[str, list[Loss]] = {}
    for loss in _alone(rows):
        by_compression.setdefault(loss.compression, []).append(loss)
    return by_compression


def _compared(rows: list[Row]) -> tuple[str, str] | None:
    """The smallest and the largest size by their dense models; None of fewer than two."""
    trainings = {
        size: len(model.values)
        for (size, _, bits, sparsity, _, as_long_as), model in models_of(rows).items()
        if bits == DENSE and not sparsity and as_long_as is None and model.passes
    }
    several = [size for size, count in trainings.items() if count > 1]
    sizes = several if len(several) > 1 else [*trainings]
    return (sizes[0], sizes[-1]) if len(sizes) > 1 else None


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each compression: the largest size against the smallest."""
    compared, findings = _compared(rows), []
    for compression, sizes in _by_compression(rows).items():
        two = [loss for loss in sizes if compared and loss.size in compared]
        if len(two) < 2 or any(map(_without_control, two)):
            continue
        smallest, largest = two
        claim = PRUNES if largest.sparsity else QUANTIZES
        tested = contrast([(1.0, smallest.by_training), (-1.0, largest.by_training)])
        difference = tested or f"{smallest.mean - largest.mean:+.4f}"
        control = ", against the dense model that was trained as long" if largest.controlled else ""
        text = (
            f"{compression}, after as long a training: {largest.size} loses {_loss(largest)} {_unit(rows)} "
            f"and {smallest.size} {_loss(smallest)}{control}; "
            f"{smallest.size} minus {largest.size}: {difference}"
        )
        text += AT_ONCE if largest.sparsity and not largest.recovered else ""
        findings.append(Finding(claim, text, largest.mean < smallest.mean, tested and tested.p))
    return findings


def _without_control(loss: Loss) -> bool:
    """Whether a model was trained for longer than the dense model that it is compared with."""
    return loss.recovered and not loss.controlled


def _loss(loss: Loss) -> str:
    return f"{loss}{'' if loss.passes else ' (no better than the gate)'}"


def _unit(rows: list[Row]) -> str:
    return str(rows[0]["metric"]).replace("_", " ")


def _table(rows: list[Row]) -> Table:
    decoded = any(loss.bleu is not None for loss in _alone(rows))
    table = Table(title=f"What compression costs, in {_unit(rows)} on {rows[0]['set']}")
    names = ("size", "compression", "compressed", "dense", "loss", "share", *(["BLEU"] if decoded else []))
    for name in names:
        table.add_column(name, justify="left" if name in names[:2] else "right")
    for loss in sorted(_alone(rows), key=lambda loss: [row["size"] for row in rows].index(loss.size)):
        marked = f"{loss}{'' if loss.passes else ' -'}"
        dense = f"{with_interval(loss.dense)}{' +' if loss.controlled else ''}"
        table.add_row(
            loss.size,
            loss.compression,
            with_interval(loss.values),
            dense,
            marked,
            f"{100 * loss.share:+.1f} %",
            *([_bleu(loss)] if decoded else []),
        )
    notes = {
        "+ trained as long as the recovery": any(loss.controlled for loss in _alone(rows)),
        "- no better than the gate, compressed or not": any(not loss.passes for loss in _alone(rows)),
        f"BLEU: of greedy translations of {_bleu_set(rows)}, and its change": decoded,
    }
    table.caption = "; ".join(note for note, needed in notes.items() if needed) or None
    return table


def _bleu(loss: Loss) -> str:
    """BLEU and what it changes by, with the interval over trainings of that."""
    if loss.bleu is None or loss.dense_bleu is None:
        return ""
    change = loss.bleu - loss.dense_bleu
    covered = interval(change)
    text = f"{change.mean():+.1f}" + ("" if covered is None else f" [{covered[0]:+.1f}, {covered[1]:+.1f}]")
    return f"{loss.bleu.mean():.1f} ({text})"


def _bleu_set(rows: list[Row]) -> str:
    return next((str(row["bleu_set"]) for row in rows if "bleu_set" in row), "")


def _sentences(rows: list[Row]) -> list[str]:
    texts = as_sentences(_findings(rows))
    pruned = {(loss.size, loss.sparsity, loss.recovered): loss for loss in _alone(rows) if loss.sparsity}
    for (size, sparsity, recovered), loss in pruned.items():
        at_once = pruned.get((size, sparsity, False))
        if recovered and at_once is not None:
            texts.append(
                f"{size}, {100 * sparsity:g} % pruned: at once {at_once.values.mean():.4f}, in rounds "
                f"{loss.values.mean():.4f}, dense{', trained as long,' if loss.controlled else ''} "
                f"{loss.dense.mean():.4f}."
            )
    if (controls := [row for row in rows if row["as_long_as"] is not None and row["bits"] == DENSE]) and (
        unchanged := sum(row.get("step") == 0 for row in controls)
    ):
        texts.append(
            f"Dense, trained as long: {unchanged} of {len(controls)} of these controls were best before "
            "their first further update, and are the models that were finished before. Rounds begin at the "
            "peak rate again, which did not help them."
        )
    if any(map(_without_control, _alone(rows))):
        texts.append(
            "Pruned in rounds, a model is judged only against a dense one that was trained as long "
            "(`recovery.control`)."
        )
    return texts


def _panels(rows: list[Row]) -> list[list[list[Row]]]:
    """Losses over bits, and over sparsity."""
    chosen = {
        "bits": [row for row in rows if not row["sparsity"] and row["as_long_as"] is None],
        "sparsity": [row for row in rows if row["bits"] == DENSE],
    }
    panels = [[{**row, "axis": axis} for row in of_axis] for axis, of_axis in chosen.items()]
    return [[panel for panel in panels if losses(panel)]]


def _draw(axes: Axes, rows: list[Row]) -> None:
    quantized = rows[0]["axis"] == "bits"
    colours = {size: f"C{number}" for number, size in enumerate(dict.fromkeys(row["size"] for row in rows))}
    curves: dict[tuple[str, bool], list[Loss]] = {}
    for loss in losses(rows):
        curves.setdefault((loss.size, loss.recovered), []).append(loss)
    for (size, recovered), curve in curves.items():
        curve.sort(key=lambda loss: loss.bits if quantized else loss.sparsity)
        draw_means(
            axes,
            [loss.bits if quantized else 100 * loss.sparsity for loss in curve],
            [loss.by_training for loss in curve],
            f"{size}{', in rounds' if recovered else '' if quantized else ', at once'}",
            fmt="o-" if quantized or recovered else "o--",
            color=colours[size],
        )
    axes.axhline(0, color="grey", linewidth=0.8)
    _stretch(axes, losses(rows))
    axes.set(
        xlabel="bits" if quantized else "% of the weights pruned",
        ylabel=plain(f"loss by compression, {_unit(rows)} on {rows[0]['set']}".replace("_", " ")),
        title="Quantized" if quantized else "Pruned",
    )
    axes.legend(fontsize=8)


def _stretch(axes: Axes, shown: Sequence[Loss]) -> None:
    """Losses range over orders of magnitude, and may be negative: the axis is linear below their median."""
    sizes = np.abs([loss.mean for loss in shown])
    if linear := float(np.median(sizes)):
        axes.set_yscale("symlog", linthresh=linear)
        lowest = min(loss.mean for loss in shown)
        axes.set_ylim(min(0.0, 2 * lowest) - linear / 2, 1.5 * max(linear, float(sizes.max())))


COMPRESSION_LOSSES = Exhibit(
    "quantization and pruning",
    _rows,
    _table,
    _sentences,
    _draw,
    (QUANTIZES, PRUNES),
    _findings,
    _panels,
)
