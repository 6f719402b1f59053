"""Students beside large models that are compressed and beside small ones that learn alone: what each way to a
model reached, after how long, and the best of each way for each number of bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tlc_jax.studies.as_many_bytes import KILOBYTE
from tlc_jax.studies.compressed_models import BLEU
from tlc_jax.studies.item_store import ItemStore, Row
from tlc_jax.studies.measured import Measured, primary, share, size_order, with_gates
from tlc_jax.studies.one_device import of_one_device
from tlc_jax.tasks.metric import Metric

COMPRESSED, DISTILLED, SMALL = "large, then compressed", "large, then distilled", "small all the time"
AS_LONG = "small, as long as the student"
WAYS = (COMPRESSED, DISTILLED, SMALL, AS_LONG)
KEY = ("way", "size", "teacher", "teacher_mark", "mark", "bits", "sparsity")
TAUGHT_BY, ALONE = "taught_by", "alone"
"""Columns of students: what their teacher had reached, and what their size alone did after as long."""
_TRAINED = ("train", "branch", "distil")
_CHOSEN_ON = ("tuning", "both")


@dataclass(frozen=True)
class Contest:
    """The best model of each way that has one, among those of at most `limit` bytes."""

    limit: float
    best: dict[str, Measured]

    @property
    def keys(self) -> list[object]:
        return [model.key for model in self.best.values()]


def rows_of_ways(store: ItemStore) -> list[Row]:
    """The primary metric of each compressed model on the reported set, with that on the tuning set, its BLEU
    and the seconds that it took in all; none without students. A size that teaches and learns has both ways.
    Students have what their teacher reached, and what their size alone did after as long."""
    trained = of_one_device([row for row in store.rows(last=True) if _of_training(row)], store)
    students = [row | _before(row, trained) for row in _compressed(store, "compress_student", trained)]
    teachers = {row["teacher"] for row in students}
    as_long = {(row["size"], 1 - share(row["teacher_mark"])) for row in students}
    rows = [{**row, "way": DISTILLED, "mark": ""} for row in students]
    for row in _compressed(store, "compress", trained) if students else []:
        if row["variant"] or row.get("recovered") or row.get("as_long_as") is not None:
            continue
        whole = {**row, "teacher": "", "teacher_mark": ""}
        if (row["size"], share(row["mark"])) in as_long:
            rows.append({**whole, "way": AS_LONG})
        if share(row["mark"]) < 1:
            continue
        if row["size"] in teachers:
            rows.append({**whole, "way": COMPRESSED})
        if any(row["size"] == student["size"] for student in students):
            rows.append({**whole, "way": SMALL})
    rows.sort(key=lambda row: (size_order(row["size"]), share(row["teacher_mark"]), -row["bits"]))
    return rows if {row["way"] for row in rows} >= {COMPRESSED, DISTILLED} else []


def _of_training(row: Row) -> bool:
    return primary(row) and row["stage"] in _TRAINED


def _before(student: Row, trained: list[Row]) -> Row:
    """What the teacher and the student's size reached at the mark at which the teacher was finished, on the
    first set that both were evaluated on while they trained; None where one was not."""
    mark, seed = student["teacher_mark"], student["seed"]
    at_mark = [row for row in trained if (row.get("mark"), row["seed"], row["variant"]) == (mark, seed, "")]
    teacher, alone = (
        {row["set"]: row["value"] for row in reversed(at_mark) if row["size"] == student[which]}
        for which in ("teacher", "size")
    )
    first = next((name for name in teacher if name in alone), "")
    return {TAUGHT_BY: teacher.get(first), ALONE: alone.get(first)}


def _compressed(store: ItemStore, stage: str, trained: list[Row]) -> list[Row]:
    """Compressed models of a stage, of runs whose seconds are those of one device."""
    runs = {row["item"]: row for row in trained}
    rows = store.rows(stage=stage)
    tuning = {row["item"]: row["value"] for row in rows if primary(row) and row.get("role") in _CHOSEN_ON}
    bleu = {row["item"]: row["value"] for row in rows if row["metric"] == BLEU}
    chosen = []
    for row in with_gates(rows, rows):
        run = runs.get(row["item"].rpartition("/")[0])
        if run is not None and primary(row) and row.get("role") in ("reported", "both"):
            seconds = run["training_seconds"] + run.get("teacher_seconds", 0.0)
            about = {"tuning": tuning[row["item"]], "seconds": seconds, "left_out": run["left_out"]}
            chosen.append({**row, **about, BLEU: bleu.get(row["item"])})
    return chosen


def contests(models: list[Measured], metric: Metric) -> list[Contest]:
    """A contest for each limit, a kilobyte times a power of two, at which the choice changes."""
    sizes = [file_bytes(model) / KILOBYTE for model in models]
    first, last = (math.ceil(math.log2(end(sizes))) for end in (min, max))
    contests: list[Contest] = []
    for limit in (KILOBYTE * 2.0**exponent for exponent in range(first, last + 1)):
        best = {}
        for way in WAYS:
            fitting = [m for m in models if m.key[0] == way and file_bytes(m) <= limit]
            if fitting:
                best[way] = metric.best(fitting, tuned)
        contest = Contest(limit, best)
        if DISTILLED in best and (not contests or contest.keys != contests[-1].keys):
            contests.append(contest)
    return contests


def model_name(model: Measured) -> str:
    _, _, _, _, mark, bits, sparsity = model.key
    part = f"@{mark}" if mark and share(mark) < 1 else ""
    pruned = f" and {100 * sparsity:g} % pruned" if sparsity else ""
    return f"{student_name(model)}{part} at {bits} bits{pruned}"


def student_name(model: Measured) -> str:
    _, size, teacher, mark, *_ = model.key
    return f"{size} taught by {teacher}@{mark}" if teacher else size


def tuned(model: Measured) -> float:
    return model.number("tuning")


def file_bytes(model: Measured) -> float:
    return model.number("file_bytes")


def without_a_better_teacher(models: list[Measured], metric: Metric) -> list[Measured]:
    """Students whose size alone was as good as their teacher when that was finished."""
    known = [m for m in models if all(row.get(c) is not None for row in m.rows for c in (TAUGHT_BY, ALONE))]
    return [m for m in known if not metric.better(m.number(TAUGHT_BY), m.number(ALONE))]
