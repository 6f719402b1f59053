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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from rich.table import Table

from tlc_jax.core.printable import counted
from tlc_jax.studies.as_many_bytes import KILOBYTE, best_within, frontier, kilobytes, no_larger
from tlc_jax.studies.claims import Claim, Finding
from tlc_jax.studies.compressed_models import amount_of
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row, unpack_scores
from tlc_jax.studies.measured import (
    Measured,
    above_gate,
    grouped,
    metric_of,
    primary,
    share,
    size_order,
    with_gates,
)
from tlc_jax.studies.one_device import compressed_of_one_device
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.statistics import LEVEL, Difference, contrast, difference, holm
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KEY = ("size", "variant", "mark", "bits", "sparsity", "recovered", "as_long_as")
LARGE_THEN_COMPRESS = Claim(
    "large-then-compress",
    "Of models of as many bytes, a larger one that is compressed more is better than a smaller one that is "
    "compressed less, after as long a training.",
    "sections 4.2 and 4.3, figures 6, 7 and 12",
)
_OTHER_TRAINING = ("budget.", "data_share")  # variants that are trained for another time or on fewer data
_MEANS = ("accuracy", "nats_per_byte")  # metrics that are a mean over the scores of examples


@dataclass(frozen=True, eq=False)  # compared by identity
class _Model:
    """A size at a number of bits and a sparsity: what it reaches on the set that it is chosen on, and on the
    reported one."""

    tuning: Measured
    reported: Measured

    @property
    def bytes(self) -> float:
        """Of the file of its weights."""
        return self.reported.number("file_bytes")

    @property
    def size(self) -> str:
        return f"{self.tuning.key[0]} {self.tuning.key[1]}".strip()

    def scores(self) -> tuple[Float[np.ndarray, "trainings examples"], Float[np.ndarray, "examples"]]:
        """The scores of each training, the mean over its finetunings, and the weights of the examples."""
        trainings: dict[object, list[np.ndarray]] = {}
        weights = np.zeros(0)
        for row in self.reported.rows:
            scores, weights = unpack_scores({"scores": row["scores"], "weights": row["weights"]})
            trainings.setdefault(row["seed"], []).append(scores)
        return np.stack([np.mean(scores, axis=0) for scores in trainings.values()]), weights

    @property
    def reached(self) -> str:
        """Its value on the reported set, and its bytes."""
        return f"{self}, {self.reported}, {kilobytes(self.bytes)}"

    def __str__(self) -> str:
        return f"{self.size} at {self.tuning.key[3]} bits{self.amount and f', {self.amount}'}"

    @property
    def bits_per_weight(self) -> float:
        """Without what a sparse tensor takes to say which weights it has (paper, footnote 7)."""
        return self.tuning.key[3] * (1 - self.tuning.key[4])

    @property
    def amount(self) -> str:
        """What was done before quantization; '' if nothing."""
        return amount_of(*self.tuning.key[4:])


def _rows(store: ItemStore) -> list[Row]:
    """The primary metric of each compressed model on its tuning and on its reported set, with the scores of
    the examples of the latter; of models that are compressed at several marks, those of the last; of
    trainings of one device."""
    rows: list[Row] = []
    for result in store.results():
        if result["stage"] != "compress":
            continue
        for row in result["rows"]:
            whole: Row = {**result["fields"], **row}
            whole |= {"recovered": bool(whole.get("recovered")), "as_long_as": whole.get("as_long_as")}
            if primary(whole) and row.get("role"):
                rows.append({**whole, **result.get("examples", {}).get(str(row["set"]), {})})
    rows.sort(key=lambda row: (size_order(row["size"]), row["variant"], row["sparsity"], -row["bits"]))
    last = max((share(row["mark"]) for row in rows), default=1.0)
    rows = [row for row in rows if share(row["mark"]) == last]
    return with_gates(compressed_of_one_device(rows, store), store.rows(stage="compress"))


def _models(rows: list[Row]) -> list[_Model]:
    sets: dict[str, dict[tuple[object, ...], Measured]] = {"tuning": {}, "reported": {}}
    for role, models in sets.items():
        chosen = [row for row in rows if row["role"] in (role, "both")]
        models |= {model.key: model for model in grouped(chosen, _KEY)}
    return [_Model(model, sets["reported"][key]) for key, model in sets["tuning"].items()]


def _ranked(models: list[_Model], metric: Metric) -> list[_Model]:
    """The best on the tuning set first; of equals, the smaller first."""
    sign = -1 if metric.higher_is_better else 1
    return sorted(models, key=lambda model: (sign * model.tuning.mean, model.bytes))


def _tuned(model: _Model) -> float:
    return model.tuning.mean


def _bytes(model: _Model) -> float:
    return model.bytes


def _limits(models: list[_Model]) -> list[float]:
    """Limits in bytes: a kilobyte times powers of two, from the smallest model to the largest."""
    ends = [math.ceil(math.log2(end(model.bytes for model in models) / KILOBYTE)) for end in (min, max)]
    return [KILOBYTE * 2.0**exponent for exponent in range(ends[0], ends[1] + 1)]


def _contests(models: list[_Model], metric: Metric) -> list[tuple[float, list[_Model]]]:
    """For each limit at which the choice changes, the best model of each size, the best first."""
    contests: list[tuple[float, list[_Model]]] = []
    for limit in _limits(models):
        fitting = [model for model in models if model.bytes <= limit]
        by_size = {model.size: model for model in reversed(_ranked(fitting, metric))}
        order = _ranked(list(by_size.values()), metric)
        if order and (not contests or order != contests[-1][1]):
            contests.append((limit, order))
    return contests


def _sentences(rows: list[Row]) -> list[str]:
    metric, models = metric_of(rows[0]), _models(rows)
    contests = _contests(models, metric)
    pairs = [order[:2] for _, order in contests if len(order) > 1 and not _above(order[:2], metric)]
    differences = [_difference(*pair) for pair in pairs]
    over_examples = holm([each.examples_p for each in differences])
    over_trainings = holm([1.0 if each.seeds_p is None else each.seeds_p for each in differences])
    tests = iter(zip(differences, over_examples, over_trainings, strict=True))
    first, texts = models[0].reported.rows[0], []
    for limit, order in contests:
        text = f"Up to {limit / KILOBYTE:,.0f} kB: {order[0].reached}"
        if len(order) > 1:
            text += f"; against {order[1].reached}: "
            text += "not comparable yet" if _above(order[:2], metric) else _judged(*next(tests))
        texts.append(f"{text}.")
    named = list(dict.fromkeys(model for _, order in contests for model in order[:2]))
    if above := [model for model in named if _above([model], metric)]:
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
    return texts


def _above(models: list[_Model], metric: Metric) -> list[Measured]:
    return above_gate([model.reported for model in models], metric)


def _difference(one: _Model, other: _Model) -> Difference:
    """Over trainings only where both have several: a single one says nothing about another."""
    (scores, weights), (others, _) = one.scores(), other.scores()
    made = difference(scores, others, weights)
    return made if min(len(scores), len(others)) > 1 else replace(made, seeds_p=None)


def _judged(measured: Difference, examples_p: float, trainings_p: float) -> str:
    text = f"{measured.mean:+.4f} +- {measured.examples_error:.4f} (examples, p = {examples_p:.2g}"
    if measured.seeds_p is None:
        return f"{text}), a single training, so another may turn it"
    resolved = examples_p < LEVEL and trainings_p < LEVEL
    return f"{text}; trainings, p = {trainings_p:.2g}), {'resolved' if resolved else 'not resolved'}"


def _pairs(models: list[_Model], metric: Metric) -> list[tuple[_Model, _Model]]:
    """A smaller and a larger model each, where the larger has fewer bits for each of its weights: to each
    that is the best of its size for its bytes, the best of the other sizes that takes no more. Of those of
    one size to which the same is the best, the one with the fewest bytes is the hardest to beat, and kept."""
    pairs: dict[tuple[_Model, str], tuple[_Model, _Model]] = {}
    of_size = [[model for model in models if model.size == size] for size in {m.size: None for m in models}]
    for one in (model for each in of_size for model in frontier(each, metric, _tuned, _bytes)):
        larger = [model for model in models if _more_compressed(one, model)]
        if (other := best_within(one.bytes, larger, metric, _tuned, _bytes)) is not None:
            pairs.setdefault((other, one.size), (one, other))
        smaller = [model for model in models if _more_compressed(model, one)]
        if (other := best_within(one.bytes, smaller, metric, _tuned, _bytes)) is not None:
            pairs.setdefault((other, one.size), (other, one))
    return list(dict.fromkeys(pairs.values()))


def _more_compressed(smaller: _Model, larger: _Model) -> bool:
    """Whether the second is a larger model that is compressed more."""
    fewer_bits = larger.bits_per_weight < smaller.bits_per_weight
    return fewer_bits and size_order(smaller.tuning.key[0]) < size_order(larger.tuning.key[0])


def _as_long(row: Row) -> bool:
    """Whether a model was trained as long as the others on all data, and not again after compression."""
    again = row["recovered"] or row["as_long_as"] is not None
    return not (again or row.get("equal") or any(name in row["variant"] for name in _OTHER_TRAINING))


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each pair whose better model has no more bytes. That one with more bytes is better says nothing
    about compression, so such a pair has none."""
    metric, findings = metric_of(rows[0]), list[Finding]()
    for smaller, larger in _pairs(_models(list(filter(_as_long, rows))), metric):
        supports = metric.better(larger.reported.mean, smaller.reported.mean)
        better, worse = (larger, smaller) if supports else (smaller, larger)
        if _above([smaller, larger], metric) or not no_larger(better.bytes, worse.bytes):
            continue
        tested = contrast([(1.0, larger.reported.values), (-1.0, smaller.reported.values)])
        difference = tested or f"{larger.reported.mean - smaller.reported.mean:+.4f}"
        text = (
            f"{larger.reached}, and {smaller.reached}: the first minus the second is {difference} "
            f"{metric.name.replace('_', ' ')}"
        )
        findings.append(Finding(LARGE_THEN_COMPRESS, text, supports, tested and tested.p))
    return findings


def _table(rows: list[Row]) -> Table:
    models = _models(rows)
    first = models[0].reported.rows[0]
    table = Table(title=f"{first['metric']} on {first['set']}; bytes of the file")
    table.add_column("size")
    table.add_column("pruned", justify="right")
    levels = sorted({int(str(model.tuning.key[3])) for model in models}, reverse=True)
    for bits in levels:
        table.add_column(f"{bits} bits", justify="right")
    for size, amount in dict.fromkeys((model.size, model.amount) for model in models):
        cells = {
            int(str(model.tuning.key[3])): f"{model.reported.mean:.4f}  {model.bytes / KILOBYTE:,.0f} kB"
            for model in models
            if (model.size, model.amount) == (size, amount)
        }
        table.add_row(size, amount or "0 %", *(cells.get(bits, "") for bits in levels))
    if (gate := first.get("gate")) is not None:
        table.caption = f"{first['gate_name']} {gate:.4f}"
    return table


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, models = metric_of(rows[0]), _models(rows)
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
            axes.annotate(
                label,
                (model.bytes / KILOBYTE, model.reported.mean),
                xytext=(3, 3),
                textcoords="offset points",
                fontsize=6,
                color=colour,
            )
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
    axes.legend(fontsize=8)


EQUAL_BYTES = Exhibit("equal bytes", _rows, _table, _sentences, _draw, (LARGE_THEN_COMPRESS,), _findings)
