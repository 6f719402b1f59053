"""Whether a model compresses worse the longer it was trained (paper 4.4, figure 8).

Models that were finished at several marks of one training are compressed alike. The change is the loss by
compression at the last mark less that at the first, of the same training. There are two claims: that models
which are trained for longer lose no more, and that what they lose more is small. The second is no difference
that was missed: it holds if the change is within a margin by two one-sided tests over the trainings, and
fails if it is beyond. The margin is a tenth of what the dense model gained between both
marks: then nine tenths at least of what the further training was for are still there after compression, and
how long to train can be decided without a look at the compression that follows. A size that gained nothing
between the marks, or so little that its trainings do not show it, has no margin and is not judged. Only the
dense models have to be better than their gate, at the first mark that is judged and at the last of all: a
model that compression makes no better than its gate is what the claim denies, and is judged. The paper
quantizes to 4 bits, and so does what is judged; the table has all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import DENSE, Loss, compressed_rows, losses, models_of
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import share
from tlc_jax.studies.picture import draw_means, plain
from tlc_jax.studies.statistics import LEVEL, contrast

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 0.1  # share of the gain
_JUDGED = "4 bits"

INDEPENDENT = Claim(
    "training-longer-loses-no-more",
    "The loss by quantization to 4 bits depends on the size of a model, not on how long it was trained: a "
    "model that is trained for longer loses no more.",
    "section 4.4, figure 8",
)
SMALL = Claim(
    "training-longer-is-worth-it",
    "What a model that is trained for longer loses more by quantization to 4 bits is less than a tenth of "
    "what the further training gains.",
    "this project; what section 4.4 is needed for",
)


@dataclass(frozen=True)
class _Change:
    """Of the losses of a size from its first mark to its last, and the gain of the dense model meanwhile, for
    each training."""

    by_training: Float[np.ndarray, "trainings"]
    gain: Float[np.ndarray, "trainings"]

    @property
    def none(self) -> bool:
        """Whether the loss did not grow."""
        return float(self.by_training.mean()) <= 0

    @property
    def inside(self) -> bool:
        return abs(float(self.by_training.mean())) < self.margin

    @property
    def gained(self) -> bool:
        """Whether the dense model got better, significantly where there are several trainings."""
        tested = contrast([(1.0, self.gain)])
        return float(self.gain.mean()) > 0 and (tested is None or tested.p < LEVEL)

    @property
    def margin(self) -> float:
        return _MARGIN * float(self.gain.mean())

    def p(self) -> float | None:
        """Of the change being beyond the margin if it seems to be within, else of its being within, which it
        could have left on either side; None of a single training."""
        if self.inside:
            sides = [contrast([(1.0, _MARGIN * self.gain + sign * self.by_training)]) for sign in (1, -1)]
            return max((side.p_positive for side in sides if side), default=None)
        beyond = contrast([(1.0, np.sign(self.by_training.mean()) * self.by_training - _MARGIN * self.gain)])
        return beyond and min(2 * beyond.p_positive, 1.0)


def _change(first: Loss, last: Loss) -> _Change | None:
    """None where no training has both marks."""
    if not (seeds := [seed for seed in first.seeds if seed in last.seeds]):
        return None
    earlier, later = ([loss.seeds.index(seed) for seed in seeds] for loss in (first, last))
    gain = last.sign * (first.dense[earlier] - last.dense[later])
    return _Change(last.by_training[later] - first.by_training[earlier], gain)


def _rows(store: ItemStore) -> list[Row]:
    """The compressed models of all marks; none where those of a single one were compressed."""
    rows = [row for row in compressed_rows(store) if not row["recovered"] and row["as_long_as"] is None]
    alone = [row for row in rows if not row["sparsity"] or row["bits"] == DENSE]
    return alone if len({row["mark"] for row in alone}) > 1 and losses(alone) else []


def _by_compression(rows: list[Row]) -> dict[tuple[str, str], list[Loss]]:
    """The losses at each mark, in the order of time, by size and compression."""
    curves: dict[tuple[str, str], list[Loss]] = {}
    for loss in losses(rows):
        curves.setdefault((loss.size, loss.compression), []).append(loss)
    return {key: sorted(curve, key=lambda loss: share(loss.mark)) for key, curve in curves.items()}


def _findings(rows: list[Row]) -> list[Finding]:
    findings = []
    for (size, compression), curve in _by_compression(rows).items():
        ends = _ends(rows, size, curve)
        change = ends and _change(*ends)
        if compression != _JUDGED or not ends or not change or not change.gained:
            continue
        first, last = ends
        tested = contrast([(1.0, change.by_training)])
        effect = tested or f"{change.by_training.mean():+.4f}"
        text = (
            f"{size}: {compression} cost {first} {_unit(rows)} at {_at(first)} and {last} at {_at(last)}, a "
            f"change of {effect}"
        )
        findings.append(Finding(INDEPENDENT, text, change.none, tested and tested.p))
        within = f"{text}; the margin is {change.margin:.4f}"
        findings.append(Finding(SMALL, within, change.inside, change.p()))
    return sorted(findings, key=lambda finding: finding.claim is SMALL)


def _ends(rows: list[Row], size: str, curve: list[Loss]) -> tuple[Loss, Loss] | None:
    """The losses at the first mark at which the dense model is better than its gate, and at its last mark;
    None where one of them is missing: what happened at a mark between them says nothing of it."""
    dense = {
        mark: model.passes
        for (of_size, mark, bits, sparsity, _, _), model in models_of(rows).items()
        if (of_size, bits, sparsity) == (size, DENSE, 0.0)
    }
    marks = sorted(dense, key=share)
    first, last = next((mark for mark in marks if dense[mark]), None), marks[-1]
    by_mark = {loss.mark: loss for loss in curve}
    if first is None or first == last or not dense[last] or not {first, last} <= by_mark.keys():
        return None
    return by_mark[first], by_mark[last]


def _at(loss: Loss) -> str:
    return f"{loss.mark} of the budget{'' if loss.passes else ' (no better than the gate)'}"


def _unit(rows: list[Row]) -> str:
    return str(rows[0]["metric"]).replace("_", " ")


def _table(rows: list[Row]) -> Table:
    curves = _by_compression(rows)
    marks = sorted({loss.mark for curve in curves.values() for loss in curve}, key=share)
    table = Table(title=f"Loss by compression after parts of the budget, {_unit(rows)} on {rows[0]['set']}")
    for name in ("size", "compression"):
        table.add_column(name)
    for mark in marks:
        table.add_column(mark, justify="right")
    for (size, compression), curve in curves.items():
        cells = {loss.mark: f"{loss}{'' if loss.passes else ' -'}" for loss in curve}
        table.add_row(size, compression, *(cells.get(mark, "") for mark in marks))
    if any(not loss.passes for curve in curves.values() for loss in curve):
        table.caption = "- no better than the gate, compressed or not"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    texts = as_sentences(_findings(rows))
    for (size, compression), curve in _by_compression(rows).items():
        ends = _ends(rows, size, curve)
        change = ends and _change(*ends)
        if compression == _JUDGED and ends and change and not change.gained:
            first, last = ends
            gain = contrast([(1.0, change.gain)]) or f"{change.gain.mean():+.4f}"
            texts.append(
                f"{size} gained {gain} {_unit(rows)} from {_at(first)} to {_at(last)}, which is no gain to "
                "judge a change by."
            )
    return texts


def _draw(axes: Axes, rows: list[Row]) -> None:
    """The compression that is judged, or else the last one."""
    curves = _by_compression(rows)
    names = [compression for _, compression in curves]
    shown = _JUDGED if _JUDGED in names else names[-1]
    for (size, compression), curve in curves.items():
        if compression != shown:
            continue
        draw_means(axes, [share(loss.mark) for loss in curve], [loss.by_training for loss in curve], size)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(
        xlabel="share of the budget that was trained",
        ylabel=plain(f"loss by {shown}, {_unit(rows)} on {rows[0]['set']}".replace("_", " ")),
        xscale="log",
        title="Trained longer: quantized as well?",
    )
    marks = sorted({loss.mark for curve in curves.values() for loss in curve}, key=share)
    axes.set_xticks([share(mark) for mark in marks], marks)
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8)


OVER_TRAINING = Exhibit(
    "compression over training", _rows, _table, _sentences, _draw, (INDEPENDENT, SMALL), _findings
)
