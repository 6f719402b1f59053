"""Large-then-distil beside large-then-compress, at equal seconds of training and equal bytes (not in the
paper, which compresses only).

For each number of bytes there are three ways to a model in the same time: a large one that is trained for all
of it and then compressed; a student that learns from a large one which was finished early, compressed as far
as is needed; and, as the control, a student's size trained on the data alone for all of it, compressed too.
Of each way the best model is chosen on the tuning set, and shown on the reported one. The seconds of a
student are those of its teacher and its own, in which the teacher's forward passes count. Models that were
trained again after compression have had more time, and are left out. A way is judged to be better only by a
model that has no more bytes than the other's. "At least as good" is meant to 1 %, since no test can show that
two are equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.as_many_bytes import KILOBYTE, best_within, frontier, kilobytes, no_larger
from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import ItemStore, Row
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
from tlc_jax.studies.one_device import of_one_device
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.statistics import contrast
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COMPRESSED, _DISTILLED, _SMALL = "large, then compressed", "large, then distilled", "small all the time"
_KEY = ("way", "size", "teacher", "teacher_mark", "bits", "sparsity")
_TRAINED = ("train", "branch", "distil")
_MARGIN = 0.01
"""What a model that is at least as good may be worse, as a share of what the other reaches."""
_CHOSEN_ON = ("tuning", "both")

COMPRESSING_OR_DISTILLING = Claim(
    "compressing-beats-distilling",
    "At equal training time and bytes, a large model that is compressed is at least as good, to 1 %, as "
    "a small one that learns from a large one.",
    "this project; not in the paper",
)
A_TEACHER_HELPS = Claim(
    "a-teacher-helps-at-equal-time",
    "At equal bytes, a small model that learns from a large one is better than one that learns from the data "
    "alone for as long as both together.",
    "Hinton et al. 2015; not in the paper",
)


@dataclass(frozen=True)
class _Contest:
    """The best model of each way that has one, among those of at most `limit` bytes."""

    limit: float
    best: dict[str, Measured]

    @property
    def keys(self) -> list[object]:
        return [model.key for model in self.best.values()]


def _rows(store: ItemStore) -> list[Row]:
    """The primary metric of each compressed model on the reported set, with that on the tuning set and the
    seconds that it took in all; none without students. A size that teaches and learns has both ways."""
    students = _compressed(store, "compress_student")
    teachers = {row["teacher"] for row in students}
    rows = [{**row, "way": _DISTILLED} for row in students]
    for row in _compressed(store, "compress") if students else []:
        trained_again = row.get("recovered") or row.get("as_long_as") is not None
        if row["variant"] or trained_again or share(row["mark"]) < 1:
            continue
        whole = {**row, "teacher": "", "teacher_mark": ""}
        if row["size"] in teachers:
            rows.append({**whole, "way": _COMPRESSED})
        if any(row["size"] == student["size"] for student in students):
            rows.append({**whole, "way": _SMALL})
    rows.sort(key=lambda row: (size_order(row["size"]), share(row["teacher_mark"]), -row["bits"]))
    return rows if {row["way"] for row in rows} >= {_COMPRESSED, _DISTILLED} else []


def _compressed(store: ItemStore, stage: str) -> list[Row]:
    """Compressed models of a stage, of runs whose seconds are those of one device."""
    trained = [row for row in store.rows(last=True) if primary(row) and row["stage"] in _TRAINED]
    runs = {row["item"]: row for row in of_one_device(trained, store)}
    rows = store.rows(stage=stage)
    tuning = {row["item"]: row["value"] for row in rows if primary(row) and row.get("role") in _CHOSEN_ON}
    chosen = []
    for row in with_gates(rows, rows):
        run = runs.get(row["item"].rpartition("/")[0])
        if run is not None and primary(row) and row.get("role") in ("reported", "both"):
            seconds = run["training_seconds"] + run.get("teacher_seconds", 0.0)
            about = {"tuning": tuning[row["item"]], "seconds": seconds, "left_out": run["left_out"]}
            chosen.append({**row, **about})
    return chosen


def _contests(rows: list[Row]) -> list[_Contest]:
    """A contest for each limit, a kilobyte times a power of two, at which the choice changes."""
    metric, models = metric_of(rows[0]), grouped(rows, _KEY)
    sizes = [_bytes(model) / KILOBYTE for model in models]
    first, last = (math.ceil(math.log2(end(sizes))) for end in (min, max))
    contests: list[_Contest] = []
    for limit in (KILOBYTE * 2.0**exponent for exponent in range(first, last + 1)):
        best = {}
        for way in (_COMPRESSED, _DISTILLED, _SMALL):
            fitting = [m for m in models if m.key[0] == way and _bytes(m) <= limit]
            if fitting:
                best[way] = metric.best(fitting, _tuned)
        contest = _Contest(limit, best)
        if _DISTILLED in best and (not contests or contest.keys != contests[-1].keys):
            contests.append(contest)
    return contests


def _named(model: Measured) -> str:
    _, size, teacher, mark, bits, sparsity = model.key
    taught = f" taught by {teacher}@{mark}" if teacher else ""
    pruned = f" and {100 * sparsity:g} % pruned" if sparsity else ""
    return f"{size}{taught} at {bits} bits{pruned}"


def _tuned(model: Measured) -> float:
    return model.number("tuning")


def _bytes(model: Measured) -> float:
    return model.number("file_bytes")


def _pairs(models: list[Measured], way: str, metric: Metric) -> list[tuple[Measured, Measured]]:
    """A student and a model of another way each: to each that is the best of its way for its bytes, the best
    of the other way that takes no more. Of those to which the same is the best, the one with the fewest bytes
    is the hardest to beat, and kept."""
    students = [model for model in models if model.key[0] == _DISTILLED]
    others = [model for model in models if model.key[0] == way]
    pairs: dict[tuple[object, ...], tuple[Measured, Measured]] = {}
    for student in frontier(students, metric, _tuned, _bytes):
        if (other := best_within(_bytes(student), others, metric, _tuned, _bytes)) is not None:
            pairs.setdefault(other.key, (student, other))
    for other in frontier(others, metric, _tuned, _bytes):
        if (student := best_within(_bytes(other), students, metric, _tuned, _bytes)) is not None:
            pairs.setdefault(student.key, (student, other))
    return list({(student.key, other.key): (student, other) for student, other in pairs.values()}.values())


def _findings(rows: list[Row]) -> list[Finding]:
    """One for each pair of a student and a model of another way whose better one has no more bytes."""
    metric, models, findings = metric_of(rows[0]), grouped(rows, _KEY), list[Finding]()
    for way, claim in ((_COMPRESSED, COMPRESSING_OR_DISTILLING), (_SMALL, A_TEACHER_HELPS)):
        margin = _MARGIN if claim is COMPRESSING_OR_DISTILLING else 0.0
        bar = 1 + (-margin if metric.higher_is_better else margin)
        for student, other in _pairs(models, way, metric):
            student_is_better = metric.better(bar * student.mean, other.mean)
            better, worse = (student, other) if student_is_better else (other, student)
            if above_gate([student, other], metric) or not no_larger(_bytes(better), _bytes(worse)):
                continue
            tested = contrast([(bar, student.values), (-1.0, other.values)])
            measured = contrast([(1.0, student.values), (-1.0, other.values)])
            text = (
                f"after {other.number('seconds'):,.0f} s: {_reached(student)}, and {_reached(other)}, a "
                f"difference of {measured or f'{student.mean - other.mean:+.4f}'} "
                f"{metric.name.replace('_', ' ')}"
            )
            text += f"; the margin is {margin * student.mean:.4f}" if margin else ""
            supports = student_is_better if claim is A_TEACHER_HELPS else not student_is_better
            findings.append(Finding(claim, text, supports, tested and tested.p))
    return findings


def _reached(model: Measured) -> str:
    return f"{_named(model)}, {model}, {kilobytes(_bytes(model))}"


def _sentences(rows: list[Row]) -> list[str]:
    metric, texts = metric_of(rows[0]), as_sentences(_findings(rows))
    models = [model for contest in _contests(rows) for model in contest.best.values()]
    if above := list(dict.fromkeys(map(_named, above_gate(models, metric)))):
        texts.append(
            f"Not comparable yet: {', '.join(above)} {'is' if len(above) == 1 else 'are'} no better than the "
            f"{rows[0]['gate_name']}, {rows[0]['gate']:.4f}."
        )
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts


def _table(rows: list[Row]) -> Table:
    metric = metric_of(rows[0])
    table = Table(title=f"Equal time and bytes: {metric.name} on {rows[0]['set']}")
    table.add_column("up to kB", justify="right")
    for way in (_COMPRESSED, _DISTILLED, _SMALL):
        table.add_column(way)
    for contest in _contests(rows):
        best = metric.best(list(contest.best.values()), lambda model: model.mean)
        cells = [
            f"{_named(model)}, {kilobytes(_bytes(model))}: {model}{' *' if model is best else ''}"
            if model
            else ""
            for model in map(contest.best.get, (_COMPRESSED, _DISTILLED, _SMALL))
        ]
        table.add_row(f"{contest.limit / KILOBYTE:,.0f}", *cells)
    seconds = [
        f"{way} {min(times):,.0f} to {max(times):,.0f} s"
        for way in (_COMPRESSED, _DISTILLED, _SMALL)
        if (times := [row["seconds"] for row in rows if row["way"] == way])
    ]
    table.caption = f"* best; seconds of training in all: {', '.join(seconds)}"
    return table


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, models = metric_of(rows[0]), grouped(rows, _KEY)
    for number, way in enumerate((_COMPRESSED, _DISTILLED, _SMALL)):
        best = frontier([model for model in models if model.key[0] == way], metric, _tuned, _bytes)
        x = [_bytes(model) / KILOBYTE for model in best]
        axes.plot(x, [model.mean for model in best], "o-", markersize=4, color=f"C{number}", label=way)
        for model, position in zip(best, x, strict=True):
            text = f"{model.key[1]} {model.key[4]}b"
            axes.annotate(text, (position, model.mean), (3, 3), textcoords="offset points", fontsize=6)
    if (gate := rows[0].get("gate")) is not None:
        axes.axhline(gate, color="grey", linestyle="--", label=plain(rows[0]["gate_name"]))
    axes.set(
        xlabel="kilobytes of the file (labels: size, bits)",
        ylabel=plain(f"{metric.name} on {rows[0]['set']}".replace("_", " ")),
        xscale="log",
        title="Compress or distil: equal time and bytes",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    logarithmic_losses(axes, metric.name)
    axes.legend(fontsize=8)


LARGE_THEN_DISTIL = Exhibit(
    "large then distil",
    _rows,
    _table,
    _sentences,
    _draw,
    (COMPRESSING_OR_DISTILLING, A_TEACHER_HELPS),
    _findings,
)
