"""Which size and compression is best for each number of bytes (paper 4, figures 6, 7 and 12).

A compressed model is chosen on the tuning set and shown on the reported one, on which nothing is chosen;
where a task has one set for both, the sentences say so: its best value is a little too good.
What is called resolved is so by a paired test over the examples and by Welch's t-test over trainings, each
corrected for the number of budgets (Holm): seeds of finetunings of one training say nothing about another. A
larger model that is compressed more is judged beside a smaller one only where the better of both has no
more bytes than the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.core.printable import counted
from tlc_jax.studies.as_many_bytes import KILOBYTE, best_within, frontier, no_larger
from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.compressed_models import DENSE
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import metric_of, share, size_order
from tlc_jax.studies.model_files import (
    ModelFile,
    as_long,
    file_difference,
    file_rows,
    files_of,
    gated_files,
    judged,
    ranked,
)
from tlc_jax.studies.picture import annotate_apart, logarithmic_losses, plain
from tlc_jax.studies.statistics import contrast, holm
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LARGE_THEN_COMPRESS = Claim(
    "large-then-compress",
    "Of models of as many bytes, a larger one that is compressed more is better than a smaller one that is "
    "compressed less, after as long a training.",
    "sections 4.2 and 4.3, figures 6, 7 and 12",
)
_MEANS = ("accuracy", "nats_per_byte")  # metrics that are a mean over the scores of examples


def _tuned(model: ModelFile) -> float:
    return model.tuning.mean


def _bytes(model: ModelFile) -> float:
    return model.bytes


def _rows(store: ItemStore) -> list[Row]:
    """Those of all models as files; of models that are compressed at several marks, those of the last."""
    rows = file_rows(store)
    last = max((share(row["mark"]) for row in rows), default=1.0)
    return [row for row in rows if share(row["mark"]) == last]


def _limits(models: list[ModelFile]) -> list[float]:
    """Limits in bytes: a kilobyte times powers of two, from the smallest model to the largest."""
    ends = [math.ceil(math.log2(end(model.bytes for model in models) / KILOBYTE)) for end in (min, max)]
    return [KILOBYTE * 2.0**exponent for exponent in range(ends[0], ends[1] + 1)]


def _contests(models: list[ModelFile], metric: Metric) -> list[tuple[float, list[ModelFile]]]:
    """For each limit at which the choice changes, the best model of each size, the best first."""
    contests: list[tuple[float, list[ModelFile]]] = []
    for limit in _limits(models):
        fitting = [model for model in models if model.bytes <= limit]
        by_size = {model.size: model for model in reversed(ranked(fitting, metric))}
        order = ranked(list(by_size.values()), metric)
        if order and (not contests or order != contests[-1][1]):
            contests.append((limit, order))
    return contests


def _sentences(rows: list[Row]) -> list[str]:
    metric, models = metric_of(rows[0]), files_of(rows)
    contests = _contests(models, metric)
    pairs = [order[:2] for _, order in contests if len(order) > 1 and not gated_files(order[:2], metric)]
    differences = [file_difference(*pair) for pair in pairs]
    over_examples = holm([each.examples_p for each in differences])
    over_trainings = holm([1.0 if each.seeds_p is None else each.seeds_p for each in differences])
    tests = iter(zip(differences, over_examples, over_trainings, strict=True))
    first, texts = models[0].reported.rows[0], []
    for limit, order in contests:
        text = f"Up to {limit / KILOBYTE:,.0f} kB: {order[0].reached}"
        if len(order) > 1:
            text += f"; against {order[1].reached}: "
            text += "not comparable yet" if gated_files(order[:2], metric) else judged(*next(tests))
        texts.append(f"{text}.")
    named = list(dict.fromkeys(model for _, order in contests for model in order[:2]))
    if above := [model for model in named if gated_files([model], metric)]:
        names = ", ".join(map(str, above))
        texts.append(
            f"Not comparable yet: {names} {'is' if len(above) == 1 else 'are'} no better than the "
            f"{first['gate_name']}, {first['gate']:.4f}."
        )
    tuning, reported = models[0].tuning.rows[0]["set"], first["set"]
    of_what = "" if metric.name in _MEANS else " Differences are those of the accuracy."
    same = ", which its models are chosen on, so the best is a little too good" if tuning == reported else ""
    texts.append(
        f"The model named first is the best on {tuning}; its {metric.name} is that on {reported}{same}; "
        f"bytes are those of the file. Tests are "
        f"corrected for {counted(len(differences), 'comparison')}.{of_what}"
    )
    return [*texts, *_left_out(rows)]


def _pairs(models: list[ModelFile], metric: Metric) -> list[tuple[ModelFile, ModelFile]]:
    """A smaller and a larger model each, where the larger has fewer bits for each of its weights; both are
    the best of their size for their bytes. To each such model, the best of the other sizes that takes no
    more. Of smaller ones to which the same larger one is the best, the one with the fewest bytes is kept, and
    of larger ones the best that the same smaller one beats: neither loses for its few bytes."""
    pairs: dict[tuple[ModelFile, str], tuple[ModelFile, ModelFile]] = {}
    of_size = [[model for model in models if model.size == size] for size in {m.size: None for m in models}]
    best = [model for each in of_size for model in frontier(each, metric, _tuned, _bytes)]
    for one in best:
        larger = [model for model in best if _more_compressed(one, model)]
        smaller = [model for model in best if _more_compressed(model, one)]
        for others in (larger, smaller):
            if (other := best_within(one.bytes, others, metric, _tuned, _bytes)) is None:
                continue
            key, pair = (other, one.size), (one, other) if others is larger else (other, one)
            beaten = metric.better(_tuned(other), _tuned(one))
            if key not in pairs or (others is smaller and beaten):
                pairs[key] = pair
    return list(dict.fromkeys(pairs.values()))


def _more_compressed(smaller: ModelFile, larger: ModelFile) -> bool:
    """Whether the second is a larger model that is compressed more."""
    fewer_bits = larger.bits_per_weight < smaller.bits_per_weight
    return fewer_bits and size_order(smaller.tuning.key[0]) < size_order(larger.tuning.key[0])


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each pair whose better model has no more bytes. That one with more bytes is better says nothing
    about compression, so such a pair has none."""
    metric, findings = metric_of(rows[0]), list[Finding]()
    models = files_of(list(filter(as_long, rows)))
    for smaller, larger in _pairs(models, metric):
        if gated_files([smaller, larger], metric) or _says_nothing(smaller, larger, metric):
            continue
        supports = metric.better(larger.reported.mean, smaller.reported.mean)
        tested = contrast([(1.0, larger.reported.values), (-1.0, smaller.reported.values)])
        difference = tested or f"{larger.reported.mean - smaller.reported.mean:+.4f}"
        text = (
            f"{larger.reached}, and {smaller.reached}: the first minus the second is {difference} "
            f"{metric.name.replace('_', ' ')}{_uncompressed(models, larger, smaller)}"
        )
        findings.append(Finding(LARGE_THEN_COMPRESS, text, supports, tested and tested.p))
    return findings


def _says_nothing(smaller: ModelFile, larger: ModelFile, metric: Metric) -> bool:
    """Whether the better one has more bytes."""
    supports = metric.better(larger.reported.mean, smaller.reported.mean)
    better, worse = (larger, smaller) if supports else (smaller, larger)
    return not no_larger(better.bytes, worse.bytes)


def _left_out(rows: list[Row]) -> list[str]:
    """How many pairs of a larger model that is compressed more and a smaller one are not judged, and why."""
    metric, models = metric_of(rows[0]), files_of(list(filter(as_long, rows)))
    pairs = _pairs(models, metric)
    above = [pair for pair in pairs if gated_files(list(pair), metric)]
    more = [pair for pair in pairs if pair not in above and _says_nothing(*pair, metric)]
    if not above and not more:
        return []
    return [
        f"Of {counted(len(pairs), 'pair')} of a larger model that is compressed more and a smaller one, "
        f"{len(pairs) - len(above) - len(more)} are judged ({LARGE_THEN_COMPRESS.name}). Left out: one is no "
        f"better than its gate ({len(above)}), the better one has more bytes ({len(more)})."
    ]


def _uncompressed(models: list[ModelFile], *two: ModelFile) -> str:
    """What both sizes reach uncompressed: a size that is behind before is behind for that reason, too."""
    dense = {model.size: model for model in models if not model.amount and model.tuning.key[3] == DENSE}
    if not all(model.size in dense for model in two):
        return ""
    return f" (uncompressed {' and '.join(f'{dense[model.size].reported.mean:.4f}' for model in two)})"


def _table(rows: list[Row]) -> Table:
    models = files_of(rows)
    first = models[0].reported.rows[0]
    table = Table(title=f"{first['metric']} on {first['set']}; bytes of the file")
    table.add_column("size")
    table.add_column("pruned", justify="right")
    levels = sorted({int(str(model.tuning.key[3])) for model in models}, reverse=True)
    for bits in levels:
        table.add_column(f"{bits} bits", justify="right")
    for size, amount in dict.fromkeys((model.size, model.amount) for model in models):
        cells = {
            int(str(model.tuning.key[3])): f"{model.reported}  {model.bytes / KILOBYTE:,.0f} kB"
            for model in models
            if (model.size, model.amount) == (size, amount)
        }
        table.add_row(size, amount or "0 %", *(cells.get(bits, "") for bits in levels))
    if (gate := first.get("gate")) is not None:
        table.caption = f"{first['gate_name']} {gate:.4f}"
    return table


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, models, labels = metric_of(rows[0]), files_of(rows), []
    for number, size in enumerate(dict.fromkeys(model.size for model in models)):
        mine = [model for model in models if model.size == size]
        kilobytes = [model.bytes / KILOBYTE for model in mine]
        colour = f"C{number}"
        axes.scatter(kilobytes, [model.reported.mean for model in mine], s=12, color=colour, alpha=0.3)
        best = frontier(mine, metric, _tuned, _bytes)
        axes.plot(
            [model.bytes / KILOBYTE for model in best],
            [model.reported.mean for model in best],
            "o-",
            markersize=4,
            color=colour,
            label=plain(size),
        )
        for model in best:
            bits, sparsity = model.tuning.key[3:5]
            label = f"{bits}b" + (f" {100 * float(sparsity):g}%" if sparsity else "")
            labels.append(((model.bytes / KILOBYTE, model.reported.mean), label, colour))
    first = models[0].reported.rows[0]
    if (gate := first.get("gate")) is not None:
        axes.axhline(gate, color="grey", linestyle="--", label=plain(first["gate_name"]))
    axes.set(
        xlabel="kilobytes of the file (labels: bits, share that is pruned)",
        ylabel=plain(f"{first['metric']} on {first['set']}".replace("_", " ")),
        xscale="log",
        title="Compress: equal bytes",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    logarithmic_losses(axes, metric.name)
    annotate_apart(axes, sorted(labels, key=lambda label: "%" in label[1]))
    axes.legend(fontsize=8)


EQUAL_BYTES = Exhibit("equal bytes", _rows, _table, _sentences, _draw, (LARGE_THEN_COMPRESS,), _findings)
