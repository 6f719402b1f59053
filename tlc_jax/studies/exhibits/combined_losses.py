"""Whether pruning and quantization together lose what both lose alone (paper 4.3, figure 7 and figure 12,
right; arXiv 2208.09684).

What both lose together beyond the sum is how much more a pruned model loses by quantization than the same
training does when it is dense; after pruning in rounds, than the dense model that was trained as long.
Without that, further training would pass for compression, and nothing is judged. It is averaged over the
sizes, and tested over their trainings. Of a size that the sum of both losses alone takes to its gate nothing
is left to lose, and it does not count; one that only both together take there does, so that no outcome
chooses what is judged. Where a study prunes in rounds, these count: pruned at once, large shares leave
nothing to lose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from rich.table import Table

from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import DENSE, amount_of, compressed_rows, models_of
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import share
from tlc_jax.studies.picture import plain
from tlc_jax.studies.statistics import Contrast, contrast, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MORE_THAN_THE_SUM = Claim(
    "prune-and-quantize-do-not-simply-add",
    "Pruning and quantization together lose more than the sum of what each loses alone.",
    "arXiv 2208.09684; section 4.3 calls both complementary",
)


@dataclass(frozen=True)
class _Excess:
    """By how much the loss of a size by both is above the sum, for each of its trainings."""

    size: str
    sparsity: float
    recovered: bool
    bits: int
    by_training: Float[np.ndarray, "trainings"]
    controlled: bool
    """Whether all four models were trained as long."""
    counts: bool
    """Whether the dense model is better than its gate, and stays so by the sum of both losses."""
    passes: bool
    """Whether all four models are."""

    @property
    def mean(self) -> float:
        return float(self.by_training.mean())

    def __str__(self) -> str:
        return with_interval(self.by_training, "+.4f")


def _rows(store: ItemStore) -> list[Row]:
    """The compressed models of the last mark, where some are both pruned and quantized."""
    rows = compressed_rows(store)
    last = max((share(row["mark"]) for row in rows), default=1.0)
    rows = [row for row in rows if share(row["mark"]) == last]
    return rows if _excesses(rows) else []


def _excesses(rows: list[Row]) -> list[_Excess]:
    """Of all combinations, those pruned in rounds only, if there are any."""
    models = models_of(rows)
    in_rounds = any(recovered for _, _, _, _, recovered, _ in models)
    excesses = []
    for key, both in models.items():
        size, mark, bits, sparsity, recovered, as_long_as = key
        if bits == DENSE or not sparsity or recovered != in_rounds or as_long_as is not None:
            continue
        control = sparsity if (size, mark, bits, 0.0, False, sparsity) in models and recovered else None
        pruned = models.get((size, mark, DENSE, sparsity, recovered, None))
        quantized = models.get((size, mark, bits, 0.0, False, control))
        dense = models.get((size, mark, DENSE, 0.0, False, control))
        if pruned is None or quantized is None or dense is None:
            continue
        four = (both, pruned, quantized, dense)
        if seeds := [seed for seed in both.values if all(seed in each.values for each in four)]:
            of_both, of_pruned, of_quantized, of_dense = (
                np.array([each.values[seed] for seed in seeds]) for each in four
            )
            above = both.sign * (of_both - of_pruned - of_quantized + of_dense)
            by_the_sum = float(np.mean(of_pruned + of_quantized - of_dense))
            excesses.append(
                _Excess(
                    *(size, sparsity, recovered, bits, above),
                    controlled=not recovered or control is not None,
                    counts=dense.passes and dense.better_than_gate(by_the_sum),
                    passes=all(each.passes for each in four),
                )
            )
    return excesses


def _by_combination(rows: list[Row]) -> dict[tuple[str, int], list[_Excess]]:
    combinations: dict[tuple[str, int], list[_Excess]] = {}
    for excess in _excesses(rows):
        pruned = amount_of(excess.sparsity, excess.recovered, None)
        combinations.setdefault((pruned, excess.bits), []).append(excess)
    return combinations


def _over_sizes(sizes: list[_Excess]) -> Contrast | None:
    """The mean over sizes of the means over their trainings."""
    return contrast([(1 / len(sizes), excess.by_training) for excess in sizes])


def _findings(rows: list[Row]) -> list[Finding]:
    findings = []
    for (pruned, bits), sizes in _by_combination(rows).items():
        chosen = _judged(sizes)
        if not chosen or not all(excess.controlled for excess in chosen):
            continue
        mean, tested = float(np.mean([excess.mean for excess in chosen])), _over_sizes(chosen)
        names = ", ".join(
            f"{excess.size}{'' if excess.passes else ' (no better than the gate)'}" for excess in chosen
        )
        effect = tested or f"{mean:+.4f}"
        text = (
            f"{pruned} and {bits} bits lose {effect} {_unit(rows)} more than the sum of both alone (mean of "
            f"{names})"
        )
        findings.append(Finding(MORE_THAN_THE_SUM, text, mean > 0, tested and tested.p))
    return findings


def _judged(sizes: list[_Excess]) -> list[_Excess]:
    """Those with several trainings of the sizes that count, or else all of these."""
    counting = [excess for excess in sizes if excess.counts]
    return [excess for excess in counting if len(excess.by_training) > 1] or counting


def _unit(rows: list[Row]) -> str:
    return str(rows[0]["metric"]).replace("_", " ")


def _table(rows: list[Row]) -> Table:
    combinations = _by_combination(rows)
    levels = sorted({bits for _, bits in combinations}, reverse=True)
    table = Table(title=f"Loss by both, above the sum of both alone, in {_unit(rows)} on {rows[0]['set']}")
    for name in ("size", "pruned"):
        table.add_column(name)
    for bits in levels:
        table.add_column(f"{bits} bits", justify="right")
    names = dict.fromkeys(
        (excess.size, pruned) for (pruned, _), sizes in combinations.items() for excess in sizes
    )
    order = list(dict.fromkeys(row["size"] for row in rows))
    for size, pruned in sorted(names, key=lambda name: order.index(name[0])):
        cells = []
        for bits in levels:
            of_size = [each for each in combinations.get((pruned, bits), []) if each.size == size]
            cells += [f"{each}{'' if each.passes else ' -'}" for each in of_size] or [""]
        table.add_row(size, pruned, *cells)
    if any(not excess.passes for excess in _excesses(rows)):
        table.caption = "- one of the models is no better than the gate"
    return table


def _sentences(rows: list[Row]) -> list[str]:
    texts = as_sentences(_findings(rows))
    if not all(excess.controlled for excess in _excesses(rows)):
        texts.append(
            "Pruned in rounds, the sum is judged only against dense models that were trained as long "
            "(`recovery.control`)."
        )
    return texts


def _draw(axes: Axes, rows: list[Row]) -> None:
    for number, (bits, curve) in enumerate(_curves(rows).items()):
        means = np.array([np.mean([excess.mean for excess in sizes]) for _, sizes in curve])
        tested = [_over_sizes(sizes) for _, sizes in curve]
        ranges = [each.interval() if each else (mean, mean) for each, mean in zip(tested, means, strict=True)]
        low, high = np.array(ranges).T
        axes.errorbar(
            [100 * sparsity for sparsity, _ in curve],
            means,
            yerr=[means - low, high - means],
            fmt="o-",
            color=f"C{number}",
            markersize=4,
            capsize=2,
            label=f"{bits} bits",
        )
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(
        xlabel="% of the weights pruned",
        ylabel=plain(f"loss above the sum, {_unit(rows)}"),
        title="Pruned and quantized: more than the sum?",
    )
    if _curves(rows):
        axes.legend(fontsize=8)


def _curves(rows: list[Row]) -> dict[int, list[tuple[float, list[_Excess]]]]:
    """For each number of bits, the sizes that are judged at each sparsity."""
    curves: dict[int, list[tuple[float, list[_Excess]]]] = {}
    for (_, bits), sizes in _by_combination(rows).items():
        if shown := [excess for excess in sizes if excess.counts]:
            curves.setdefault(bits, []).append((shown[0].sparsity, shown))
    return {bits: sorted(curve, key=lambda point: point[0]) for bits, curve in curves.items()}


COMBINED_LOSSES = Exhibit(
    "pruning plus quantization", _rows, _table, _sentences, _draw, (MORE_THAN_THE_SUM,), _findings
)
