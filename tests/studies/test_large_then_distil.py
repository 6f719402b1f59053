"""What is said of students beside large models that are compressed, of stores that are made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.exhibits.large_then_distil import LARGE_THEN_DISTIL
from tlc_jax.studies.item_store import ItemStore, Result, pack_scores

CPU, OTHER = "2 cores of CPU", "1 x GPU"
SIZES = {"1x32": 10.0, "2x64": 40.0, "3x192": 100.0}  # kilobytes in float32
Student = tuple[str, str, str]
"""Size, teacher, mark of the teacher."""


def made(
    workdir: Path,
    plain: dict[str, Sequence[float]],
    students: dict[Student, Sequence[float]],
    *,
    gate: float | None = None,
    tuning: dict[tuple[object, int], float] | None = None,
    devices: dict[object, str] | None = None,
    sizes: dict[str, float] = SIZES,
) -> ItemStore:
    """A store of runs of 1,000 s, compressed to 32, 8 and 4 bits, which costs 0, 0.01 and 0.1 nats per byte.
    Values are those of the seeds, on both sets unless `tuning` says otherwise. SIZE@MARK is a branch that is
    finished earlier."""
    store = ItemStore(workdir)

    def seal(item: str, stage: str, fields: dict[str, Any], rows: list[dict[str, Any]], of: object) -> None:
        fields = {**fields, "metric_of_task": "nats_per_byte"}
        device = {"device": (devices or {}).get(of, CPU)}
        examples = {"test": pack_scores(rows[-1]["value"] * np.arange(1.0, 9), np.arange(1.0, 9))}
        store.seal(Result(item=item, stage=stage, fields=fields, rows=rows, made=device, examples=examples))

    for of, values in (*plain.items(), *students.items()):
        size, teacher, mark = (
            of if isinstance(of, tuple) else (of.partition("@")[0], "", of.partition("@")[2])
        )
        at = float(mark[2:]) if mark else 1
        taught = {"teacher": teacher, "teacher_mark": mark} if teacher else {"mark": mark or "1"}
        for seed, value in enumerate(values):
            fields = {"size": size, "variant": "", "seed": seed, **taught}
            name = f"{size}-of-{teacher}-{mark.replace('/', '-')}/seed{seed}"
            row = {"set": "validation", "metric": "nats_per_byte", "value": value, "last": True, "step": 10}
            row["training_seconds"] = 1000 * (1 - 1 / at) if teacher else 1000 / at
            spent = {"teacher_seconds": 1000 / at} if teacher else {}
            seal(name, "distil" if teacher else "branch", {**fields, **spent}, [row], of)
            for bits, worse in ((32, 0.0), (8, 0.01), (4, 0.1)):
                about = {"metric": "nats_per_byte", "file_bytes": 1000 * sizes[size] * bits / 32}
                chosen_on = (tuning or {}).get((of, bits), value + worse)
                rows = [
                    {**about, "set": "validation", "role": "tuning", "value": chosen_on},
                    {**about, "set": "test", "role": "reported", "value": value + worse},
                ]
                if gate is not None:
                    rows.append({"set": "test", "metric": "target_bigram_nats_per_byte", "value": gate})
                stage = "compress_student" if teacher else "compress"
                point = {**fields, "bits": bits, "sparsity": 0.0}
                seal(f"{name}/{bits}bits-0pruned", stage, point, rows, of)
    return store


LARGE, SMALL, TAUGHT = [0.90, 0.91, 0.92], [1.20, 1.21, 1.22], [1.10, 1.11, 1.12]
PLAIN = {"3x192": LARGE, "2x64": SMALL}
STUDENTS: dict[Student, Sequence[float]] = {("2x64", "3x192", "1/2"): TAUGHT}


def test_each_way_has_its_best_model_for_each_number_of_bytes(tmp_path: Path) -> None:
    store = made(tmp_path, PLAIN, STUDENTS)
    rows = LARGE_THEN_DISTIL.rows(store)
    assert {row["seconds"] for row in rows} == {1000.0}
    assert {row["way"] for row in rows if row["size"] == "3x192"} == {"large, then compressed"}
    table = LARGE_THEN_DISTIL.table(rows)
    cells = [list(column.cells) for column in table.columns]
    # 8 kB: 5 kB of a 2x64 at 4 bits; 16: 10 kB at 8, and 12.5 kB of a 3x192 at 4; 32: 25 kB of that at 8; ...
    assert cells[0] == ["8", "16", "32", "64", "128"]
    assert [cell.partition(":")[0] for cell in cells[1]] == [
        *("", "3x192 at 4 bits, 12 kB", "3x192 at 8 bits, 25 kB", "3x192 at 8 bits, 25 kB"),
        "3x192 at 32 bits, 100 kB",
    ]
    assert [cell.partition(",")[0] for cell in cells[2]] == [
        f"2x64 taught by 3x192@1/2 at {bits} bits" for bits in (4, 8, 8, 32, 32)
    ]
    assert cells[3][0].startswith("2x64 at 4 bits, 5 kB: 1.3100 [")
    assert "large, then distilled 1,000 to 1,000 s" in str(table.caption)


def test_findings_are_tested_over_trainings(tmp_path: Path) -> None:
    findings = LARGE_THEN_DISTIL.findings(LARGE_THEN_DISTIL.rows(made(tmp_path, PLAIN, STUDENTS)))
    by_claim: dict[str, list[Any]] = {}
    for finding in findings:
        by_claim.setdefault(finding.claim.name, []).append(finding)
    [compressing], teaching = by_claim.values()
    assert compressing.effect.startswith("up to 16 kB, 2x64 taught by 3x192@1/2 at 8 bits, 1.1200 ["), (
        "of 8 kB no large model is that small, of 32 the student takes less than half, of 64 the large one"
    )
    assert "], 10 kB after 1,000 s, and 3x192 at 4 bits, 1.0100 [" in compressing.effect
    student, large = np.array(TAUGHT) + 0.01, np.array(LARGE) + 0.1
    low, high = stats.ttest_ind(student, large, equal_var=False).confidence_interval(0.95)
    with_margin = stats.ttest_ind(1.01 * student, large, equal_var=False)
    assert compressing.p == pytest.approx(with_margin.pvalue)
    assert compressing.effect.endswith("; the margin is 0.0112")
    assert compressing.supports
    assert f"], 12 kB after 1,000 s, a difference of +0.1100 [{low:+.4f}, {high:+.4f}] nats per byte" in (
        compressing.effect
    )
    [teaching] = teaching
    assert teaching.supports
    assert "and 2x64 at 8 bits, 1.2200 [" in teaching.effect, "as many bits as the student"
    text = " ".join(LARGE_THEN_DISTIL.sentences(LARGE_THEN_DISTIL.rows(ItemStore(tmp_path))))
    p_values = [finding.p for finding in findings]
    assert f"(resolved over seeds, p = {2 * min(p_values):.2g})" in text, "corrected for two comparisons"


@pytest.mark.parametrize(("worse", "supports"), [(0.001, True), (0.02, False)])
def test_at_least_as_good_is_meant_to_a_hundredth(tmp_path: Path, worse: float, supports: bool) -> None:
    """A thousandth worse than the student, in as many bytes, with seeds that agree to 1e-4: as good."""
    student: Student = ("1x32", "3x192", "1/2")
    sizes = {"1x32": 25.0, "3x192": 25.0}
    values = np.array([1.0000, 1.0001, 1.0002])
    store = made(tmp_path, {"3x192": [*(values + worse)]}, {student: [*values]}, sizes=sizes)
    findings = LARGE_THEN_DISTIL.findings(LARGE_THEN_DISTIL.rows(store))
    assert {finding.claim.name for finding in findings} == {"compressing-beats-distilling"}
    assert {finding.supports for finding in findings} == {supports}
    assert all(finding.p is not None and finding.p < 0.01 for finding in findings)


def test_a_student_without_a_better_teacher_is_not_judged(tmp_path: Path) -> None:
    """Half the time makes the large one 1.3, and the student's size alone 1.25: there is nothing to learn."""
    halves = {"3x192@1/2": [1.30, 1.31, 1.32], "2x64@1/2": [1.25, 1.26, 1.27]}
    rows = LARGE_THEN_DISTIL.rows(made(tmp_path, PLAIN | halves, STUDENTS))
    assert LARGE_THEN_DISTIL.findings(rows) == []
    assert (
        "Not judged: 2x64 taught by 3x192@1/2, whose teacher is no better (1.3100) than 2x64 alone after as "
        "long (1.2600)."
    ) in LARGE_THEN_DISTIL.sentences(rows)


def test_what_a_teacher_costs_is_told_from_whether_it_helps(tmp_path: Path) -> None:
    """The student is better than its size after the student's own time, and worse after all of it."""
    plain = {"3x192": LARGE, "2x64": [1.00, 1.01, 1.02], "3x192@1/2": LARGE, "2x64@1/2": [1.30, 1.31, 1.32]}
    rows = LARGE_THEN_DISTIL.rows(made(tmp_path, plain, STUDENTS))
    by_claim = {finding.claim.name: finding for finding in LARGE_THEN_DISTIL.findings(rows)}
    assert not by_claim["a-teacher-helps-at-equal-time"].supports
    assert by_claim["a-teacher-teaches"].supports
    assert "10 kB after 1,000 s, and 2x64@1/2 at 8 bits, 1.3200 [" in by_claim["a-teacher-teaches"].effect
    assert "10 kB after 500 s, a difference of -0.2000 [" in by_claim["a-teacher-teaches"].effect
    assert {row["size"] for row in rows if row["way"] == "small, as long as the student"} == {"2x64"}


def test_a_student_that_is_better_speaks_against_the_claim(tmp_path: Path) -> None:
    students: dict[Student, Sequence[float]] = {("2x64", "3x192", "1/4"): [0.5, 0.51, 0.52]}
    store = made(tmp_path, {"3x192": LARGE, "2x64": [0.4, 0.41, 0.42]}, students)
    findings = LARGE_THEN_DISTIL.findings(LARGE_THEN_DISTIL.rows(store))
    assert len(findings) == 2
    assert not any(finding.supports for finding in findings), "nor is it better than its size alone"


def test_models_are_chosen_on_the_tuning_set(tmp_path: Path) -> None:
    other: Student = ("2x64", "3x192", "1/4")
    tuning: dict[tuple[object, int], float] = {(other, bits): 0.1 for bits in (32, 8, 4)}
    store = made(tmp_path, PLAIN, {**STUDENTS, other: [2.0, 2.1, 2.2]}, tuning=tuning)
    [_, best, *_] = LARGE_THEN_DISTIL.table(LARGE_THEN_DISTIL.rows(store)).columns[2].cells
    assert str(best).startswith("2x64 taught by 3x192@1/4")


def test_single_seeds_are_not_tested_and_models_above_their_gate_not_compared(tmp_path: Path) -> None:
    single = made(tmp_path / "a", {"3x192": LARGE[:1], "2x64": SMALL[:1]}, {("2x64", "3x192", "1/2"): [1.1]})
    findings = LARGE_THEN_DISTIL.findings(LARGE_THEN_DISTIL.rows(single))
    assert len(findings) == 2
    assert {finding.p for finding in findings} == {None}
    above = made(tmp_path / "b", PLAIN, STUDENTS, gate=1.15)
    findings = LARGE_THEN_DISTIL.findings(LARGE_THEN_DISTIL.rows(above))
    assert len(findings) == 1, "of the student beside the large one, no small one"
    text = " ".join(LARGE_THEN_DISTIL.sentences(LARGE_THEN_DISTIL.rows(above)))
    assert "Not comparable yet: 2x64 taught by 3x192@1/2 at 4 bits, 2x64 at 4 bits" in text


def test_other_devices_and_models_that_were_trained_again_are_left_out(tmp_path: Path) -> None:
    store = made(
        tmp_path,
        PLAIN,
        {**STUDENTS, ("1x32", "3x192", "1/2"): [1.0]},
        devices={("1x32", "3x192", "1/2"): OTHER},
    )
    fields = {"size": "2x64", "variant": "", "seed": 0, "mark": "1", "bits": 4, "sparsity": 0.3}
    row = {"set": "test", "role": "both", "metric": "nats_per_byte", "value": 0.1, "file_bytes": 5.0}
    again = {**fields, "recovered": True, "metric_of_task": "nats_per_byte"}
    item = "2x64-of--/seed0/again"
    store.seal(Result(item=item, stage="compress", fields=again, rows=[row], made={"device": CPU}))
    rows = LARGE_THEN_DISTIL.rows(store)
    assert {row["size"] for row in rows} == {"2x64", "3x192"}
    assert min(row["value"] for row in rows) == 0.9
    assert f"Left out are runs of other devices, whose seconds are not comparable: {OTHER}." in (
        LARGE_THEN_DISTIL.sentences(rows)
    )


def test_a_study_without_students_has_no_such_exhibit_and_students_are_in_no_other(tmp_path: Path) -> None:
    without = made(tmp_path / "a", PLAIN, {})
    assert LARGE_THEN_DISTIL.rows(without) == []
    both = made(tmp_path / "b", PLAIN, STUDENTS)
    for exhibit in EXHIBITS:
        if exhibit is not LARGE_THEN_DISTIL and (rows := exhibit.rows(without)):
            assert exhibit.sentences(rows) == exhibit.sentences(exhibit.rows(both)), exhibit.name
    assert LARGE_THEN_DISTIL in EXHIBITS


def test_the_plot_has_a_line_for_each_way(tmp_path: Path) -> None:
    axes = Figure().subplots()
    LARGE_THEN_DISTIL.draw(axes, LARGE_THEN_DISTIL.rows(made(tmp_path, PLAIN, STUDENTS, gate=1.5)))
    assert [line.get_label() for line in axes.get_lines()] == [
        *("large, then compressed", "large, then distilled", "small all the time", "target bigram")
    ]
    [compressed, *_] = axes.get_lines()
    np.testing.assert_allclose(np.asarray(compressed.get_xdata(), float), [12.5, 25, 100])
