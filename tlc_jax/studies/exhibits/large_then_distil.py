"""Large-then-distil beside large-then-compress, at equal seconds of training and equal bytes (not in the
paper, which compresses only).

For each number of bytes there are three ways to a model in the same time: a large one that is trained for all
of it and then compressed; a student that learns from a large one which was finished early, compressed as far
as is needed; and, as the control, a student's size trained on the data alone for all of it, compressed too. A
second control is that size alone for as long as the student itself learns, where the study compresses that:
it tells a teacher that does not help from one that costs too much time.

Of each way the best model is chosen on the tuning set, and shown on the reported one. The seconds of a
student are those of its teacher and its own, in which the teacher's forward passes count. Models that were
trained again after compression have had more time, and are left out. Compressing is judged beside distilling
at each number of bytes of which the best of both ways takes more than half, a teacher beside none at one
number of bits. A student is not judged whose size, alone, is as good as its teacher after as long, since it
learns from no better a model. "At least as good" is meant to 1 %, since no test can show that two are equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from tlc_jax.studies.as_many_bytes import KILOBYTE, frontier, kilobytes
from tlc_jax.studies.claims import Claim, Finding, as_sentences
from tlc_jax.studies.compressed_models import BLEU
from tlc_jax.studies.distilled_models import (
    ALONE,
    AS_LONG,
    COMPRESSED,
    DISTILLED,
    KEY,
    SMALL,
    TAUGHT_BY,
    WAYS,
    contests,
    file_bytes,
    model_name,
    rows_of_ways,
    student_name,
    tuned,
    without_a_better_teacher,
)
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import Row
from tlc_jax.studies.measured import (
    Measured,
    above_gate,
    grouped,
    metric_of,
    share,
)
from tlc_jax.studies.picture import logarithmic_losses, plain
from tlc_jax.studies.statistics import contrast
from tlc_jax.tasks.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGIN = 0.01
"""What a model that is at least as good may be worse, as a share of what the other reaches."""
_FILLED = 0.5
"""Share of a limit in bytes that the best of a way has to take: more bytes would be of no use to it else."""
_BITS = 8
"""At which a student is judged beside its size alone, or at the next more that there are."""
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
A_TEACHER_TEACHES = Claim(
    "a-teacher-teaches",
    "At equal bytes, a small model that learns from a large one is better than one that learns from the data "
    "alone for as long as it, the time of its teacher not counted.",
    "Hinton et al. 2015; not in the paper",
)


def _findings(rows: list[Row]) -> list[Finding]:
    """Compressing or distilling at each number of bytes, then each student beside its size alone."""
    metric, models = metric_of(rows[0]), grouped(rows, KEY)
    untaught = without_a_better_teacher(models, metric)
    models = [model for model in models if model not in untaught]
    pairs: dict[tuple[Claim, object, object], tuple[str, Measured, Measured]] = {}
    for contest in contests(models, metric) if any(m.key[0] == DISTILLED for m in models) else []:
        two = [contest.best.get(way) for way in (DISTILLED, COMPRESSED)]
        student, other = (m if m and file_bytes(m) > _FILLED * contest.limit else None for m in two)
        if student and other:
            limit = f"up to {contest.limit / KILOBYTE:,.0f} kB, "
            key = COMPRESSING_OR_DISTILLING, student.key, other.key
            pairs.setdefault(key, (limit, student, other))
    for way, claim in ((SMALL, A_TEACHER_HELPS), (AS_LONG, A_TEACHER_TEACHES)):
        for student, other in _beside_none(models, way):
            pairs[claim, student.key, other.key] = ("", student, other)
    return [
        _finding(claim, text, student, other)
        for (claim, *_), (text, student, other) in pairs.items()
        if not above_gate([student, other], metric)
    ]


def _beside_none(models: list[Measured], way: str) -> list[tuple[Measured, Measured]]:
    """Each student and its size alone, both at 8 bits, or at the next more that there are."""
    pairs, seen = list[tuple[Measured, Measured]](), set[str]()
    students = [m for m in models if m.key[0] == DISTILLED and m.key[5] >= _BITS and not m.key[6]]
    for student in sorted(students, key=lambda model: model.key[5]):
        long_enough = 1 - share(student.key[3]) if way == AS_LONG else 1.0
        alone = [
            model
            for model in models
            if (model.key[0], model.key[1], *model.key[5:]) == (way, student.key[1], *student.key[5:])
            and share(model.key[4]) == long_enough
        ]
        if alone and student_name(student) not in seen:
            seen.add(student_name(student))
            pairs.append((student, alone[0]))
    return pairs


def _finding(claim: Claim, limit: str, student: Measured, other: Measured) -> Finding:
    metric = metric_of(student.rows[0])
    margin = _MARGIN if claim is COMPRESSING_OR_DISTILLING else 0.0
    bar = 1 + (-margin if metric.higher_is_better else margin)
    student_is_better = metric.better(bar * student.mean, other.mean)
    tested = contrast([(bar, student.values), (-1.0, other.values)])
    measured = contrast([(1.0, student.values), (-1.0, other.values)])
    text = (
        f"{limit}{_reached(student)}, and {_reached(other)}, a difference of "
        f"{measured or f'{student.mean - other.mean:+.4f}'} {metric.name.replace('_', ' ')}"
    )
    text += f"; the margin is {margin * student.mean:.4f}" if margin else ""
    supports = student_is_better if claim is not COMPRESSING_OR_DISTILLING else not student_is_better
    return Finding(claim, text, supports, tested and tested.p)


def _reached(model: Measured) -> str:
    size, seconds = kilobytes(file_bytes(model)), f"{model.number('seconds'):,.0f} s"
    return f"{model_name(model)}, {model}, {size} after {seconds}"


def _sentences(rows: list[Row]) -> list[str]:
    metric, models, texts = metric_of(rows[0]), grouped(rows, KEY), as_sentences(_findings(rows))
    untaught = {student_name(m): m for m in without_a_better_teacher(models, metric)}
    for name, model in untaught.items():
        teacher, alone = (model.number(column) for column in (TAUGHT_BY, ALONE))
        texts.append(
            f"Not judged: {name}, whose teacher is no better ({teacher:.4f}) than {model.key[1]} alone after "
            f"as long ({alone:.4f})."
        )
    shown = [model for contest in contests(models, metric) for model in contest.best.values()]
    if above := list(dict.fromkeys(map(model_name, above_gate(shown, metric)))):
        texts.append(
            f"Not comparable yet: {', '.join(above)} {'is' if len(above) == 1 else 'are'} no better than the "
            f"{rows[0]['gate_name']}, {rows[0]['gate']:.4f}."
        )
    if left_out := rows[0]["left_out"]:
        texts.append(f"Left out are runs of other devices, whose seconds are not comparable: {left_out}.")
    return texts


def _table(rows: list[Row]) -> Table:
    metric, models = metric_of(rows[0]), grouped(rows, KEY)
    ways = [way for way in WAYS if any(row["way"] == way for row in rows)]
    table = Table(title=f"Equal time and bytes: {metric.name} on {rows[0]['set']}")
    table.add_column("up to kB", justify="right")
    for way in ways:
        table.add_column(way)
    for contest in contests(models, metric):
        cells = [_cell(contest.best[way], metric) if way in contest.best else "" for way in ways]
        table.add_row(f"{contest.limit / KILOBYTE:,.0f}", *cells)
    seconds = [
        f"{way} {min(times):,.0f} to {max(times):,.0f} s"
        for way in ways
        if (times := [row["seconds"] for row in rows if row["way"] == way])
    ]
    notes = [f"seconds of training in all: {', '.join(seconds)}"]
    if above_gate(models, metric):
        notes.append("- no better than the gate")
    table.caption = "; ".join(notes)
    return table


def _cell(model: Measured, metric: Metric) -> str:
    text = f"{model_name(model)}, {kilobytes(file_bytes(model))}: {model}"
    if all(row[BLEU] is not None for row in model.rows):
        text += f", BLEU {model.number(BLEU):.1f}"
    return f"{text}{' -' if above_gate([model], metric) else ''}"


def _draw(axes: Axes, rows: list[Row]) -> None:
    metric, models = metric_of(rows[0]), grouped(rows, KEY)
    for number, way in enumerate(way for way in WAYS if any(model.key[0] == way for model in models)):
        best = frontier([model for model in models if model.key[0] == way], metric, tuned, file_bytes)
        x = [file_bytes(model) / KILOBYTE for model in best]
        axes.plot(x, [model.mean for model in best], "o-", markersize=4, color=f"C{number}", label=way)
        for model, position in zip(best, x, strict=True):
            text = f"{model.key[1]} {model.key[5]}b"
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
    rows_of_ways,
    _table,
    _sentences,
    _draw,
    (COMPRESSING_OR_DISTILLING, A_TEACHER_HELPS, A_TEACHER_TEACHES),
    _findings,
)
