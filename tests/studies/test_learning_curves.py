"""What is said of the updates, seconds and operations that sizes need, of stores that are made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from tests.studies.stores import Point, evaluated
from tlc_jax.studies.claims import outcomes
from tlc_jax.studies.exhibits.learning_curves import LEARNING_CURVES
from tlc_jax.studies.item_store import ItemStore
from tlc_jax.studies.size_families import families

SEEDS = (0.98, 1.0, 1.02)


def falling(steps: int, shift: float, seconds: float = 0.01, marks: int = 4) -> list[Point]:
    """A training that is evaluated after `steps` and each doubling of them, when it has fallen by 0.1."""
    return [(steps * 2**i, seconds * steps * 2**i, shift - 0.1 * i) for i in range(marks)]


def of_two_sizes(workdir: Path, **options: object) -> ItemStore:
    """2x64 does 0.02 s an update, and is after each of them as good as 1x32 after three, which takes half as
    long; the seeds need a little more or fewer updates. Both train for 80 seconds."""
    better = 0.1 * np.log2(3)
    small = [falling(1000, 2 + 0.1 * np.log2(s)) for s in SEEDS]
    large = [falling(500, 2.1 - better + 0.1 * np.log2(s), seconds=0.02) for s in SEEDS]
    return evaluated(workdir, {"1x32": small, "2x64": large}, **options)  # type: ignore[arg-type]


def test_a_larger_size_needs_a_third_of_the_updates(tmp_path: Path) -> None:
    rows = LEARNING_CURVES.rows(of_two_sizes(tmp_path))
    updates, seconds, operations = LEARNING_CURVES.findings(rows)
    test = stats.ttest_ind(*[np.log(SEEDS)] * 2, equal_var=False)
    low, high = np.exp(test.confidence_interval())
    target = 1.7 + 0.1 * np.log2(1.02)  # the worst last value
    assert updates.effect == (
        f"for {target:.4f} nats per byte, which 1x32 reaches in the end, 2x64 needs 0.33 "
        f"[{low / 3:.2f}, {high / 3:.2f}] times the updates"
    )
    assert "needs 0.67 [" in seconds.effect
    # 8 times the parameters, so 8/3 of the operations
    assert "needs 2.67 [" in operations.effect
    assert operations.effect.endswith("times the ELECTRA FLOPs")
    assert [finding.supports for finding in (updates, seconds, operations)] == [True, True, False]
    assert outcomes([updates, seconds, operations]) == ["holds", "holds", "fails"]
    first, *_ = LEARNING_CURVES.sentences(rows)
    p = stats.ttest_ind(np.log(SEEDS) - np.log(3), np.log(SEEDS), equal_var=False).pvalue
    assert p < 1e-4
    assert first.startswith(
        f"For {target:.4f} nats per byte, which 1x32 reaches in the end, 2x64 needs 0.33 ["
    )
    assert first.count(" (resolved over seeds, p = ") == 3


def test_the_table_has_the_geometric_mean_of_each_cost(tmp_path: Path) -> None:
    rows = LEARNING_CURVES.rows(of_two_sizes(tmp_path))
    table = LEARNING_CURVES.table(rows)
    cells = [list(map(str, column.cells)) for column in table.columns]
    assert [column.header for column in table.columns][2:] == [
        *("updates", "training seconds", "ELECTRA FLOPs", "exact FLOPs")
    ]
    assert cells[1] == ["1x32", "2x64"]
    mean = float(np.prod(SEEDS)) ** (1 / 3)
    assert cells[2][0].startswith(f"{8000 / 1.02 * mean:,.0f} [")
    assert cells[2][1].startswith(f"{8000 / 1.02 / 3 * mean:,.0f} [")
    assert cells[5][1].startswith(f"{8000 / 1.02 / 3 * mean * 6 * 12 * 2 * 64**2 * 100:.2e} [")


def test_no_finding_about_models_above_their_gate(tmp_path: Path) -> None:
    rows = LEARNING_CURVES.rows(of_two_sizes(tmp_path, gate=1.69))
    assert LEARNING_CURVES.findings(rows) == []
    assert LEARNING_CURVES.sentences(rows)[0] == (
        "Not compared: what 1x32 reaches in the end, which is no better than the target bigram."
    )


def test_a_training_whose_last_branch_is_not_finished_is_no_end(tmp_path: Path) -> None:
    """The third seed of 1x32 was stopped after its first branches, far from where the others end."""
    of_two_sizes(tmp_path).path("1x32,/seed2/branch4").unlink()
    rows = LEARNING_CURVES.rows(ItemStore(tmp_path))
    assert {row["seed"] for row in rows if row["size"] == "1x32"} == {0, 1}
    assert LEARNING_CURVES.findings(rows)[0].effect.startswith("for 1.7")


def test_a_larger_size_above_its_gate_contradicts_nothing(tmp_path: Path) -> None:
    """It may have had a bad rate: 1x32 ends at 1.7 and 2x64 at 2.1, and counts reach 1.75."""
    small = [falling(1000, 2 + shift) for shift in (0.0, 0.001, 0.002)]
    large = [falling(500, 2.4 + shift, seconds=0.02) for shift in (0.0, 0.001, 0.002)]
    rows = LEARNING_CURVES.rows(evaluated(tmp_path, {"1x32": small, "2x64": large}, gate=1.75))
    assert LEARNING_CURVES.findings(rows) == []


def test_a_size_that_never_is_as_good_contradicts_where_it_used_as_much(tmp_path: Path) -> None:
    """In the same 80 seconds, which are half as many updates: fewer might be enough, were it trained on."""
    small = [falling(1000, 2 + shift) for shift in (0.0, 0.001, 0.002)]
    large = [falling(500, 2.3 + shift, seconds=0.02) for shift in (0.0, 0.001, 0.002)]
    rows = LEARNING_CURVES.rows(evaluated(tmp_path, {"1x32": small, "2x64": large}))
    seconds, operations = LEARNING_CURVES.findings(rows)
    assert seconds.effect == (
        "for 1.7020 nats per byte, which 1x32 reaches in the end, 2x64 needs more than 80 training seconds, "
        "the end of its run"
    )
    assert operations.claim.name == "larger-fewer-flops"
    assert not seconds.supports
    assert not operations.supports
    ends = [[training[-1][2] for training in each] for each in (small, large)]
    assert seconds.p == pytest.approx(stats.ttest_ind(*ends, equal_var=False).pvalue)


def test_one_seed_resolves_nothing(tmp_path: Path) -> None:
    store = evaluated(tmp_path, {"1x32": [falling(1000, 2)], "2x64": [falling(500, 1.9, seconds=0.02)]})
    rows = LEARNING_CURVES.rows(store)
    findings = LEARNING_CURVES.findings(rows)
    assert [finding.p for finding in findings] == [None] * 3
    assert set(outcomes(findings)) == {"not tested"}
    assert "A size with one seed is not tested: another seed may turn an order." in LEARNING_CURVES.sentences(
        rows
    )


def test_runs_whose_rate_falls_are_compared_only_where_they_end_together(tmp_path: Path) -> None:
    rows = LEARNING_CURVES.rows(of_two_sizes(tmp_path, stage="train"))
    [finding] = LEARNING_CURVES.findings(rows)
    assert finding.claim.name == "larger-less-time"
    assert LEARNING_CURVES.sentences(rows)[1].startswith(
        "Not compared over updates, ELECTRA FLOPs, exact FLOPs: the learning rate of each size falls"
    )


def test_trunks_are_drawn_at_their_stable_rate_and_not_compared(tmp_path: Path) -> None:
    branches = LEARNING_CURVES.findings(LEARNING_CURVES.rows(of_two_sizes(tmp_path)))
    worse = {size: [falling(700, 2.5)] * 3 for size in ("1x32", "2x64")}
    rows = LEARNING_CURVES.rows(evaluated(tmp_path, worse, stage="train"))
    assert {row["rate"] for row in rows if row["stage"] == "train"} == {"stable"}
    assert LEARNING_CURVES.findings(rows) == branches
    axes = Figure().subplots()
    LEARNING_CURVES.draw(axes, LEARNING_CURVES.panels(rows)[0][0])
    assert sum(line.get_linestyle() == ":" for line in axes.lines) == 6
    assert axes.get_legend_handles_labels()[1] == ["1x32", "2x64"]


def test_a_store_without_curves_has_no_rows(tmp_path: Path) -> None:
    one = {"1x32": [falling(1000, 2)]}
    assert LEARNING_CURVES.rows(evaluated(tmp_path / "one size", one)) == []
    single = {size: [falling(1000, 2, marks=1)] for size in ("1x32", "2x64")}
    assert LEARNING_CURVES.rows(evaluated(tmp_path / "one mark", single)) == []
    assert LEARNING_CURVES.rows(of_two_sizes(tmp_path / "variants", variant="batch_size=8")) == []


def test_sizes_are_split_into_depths_and_widths_where_each_is_in_one() -> None:
    depths, widths = ["3x768", "6x768", "12x768"], ["12x512", "12x768", "12x1024"]
    sizes = ["3x768", "12x512", "6x768", "12x768", "12x1024"]
    assert families(sizes) == {"depths of width 768": depths, "widths of depth 12": widths}
    assert families([*sizes, "1x32"]) == {"all sizes": [*sizes, "1x32"]}
    assert families(["1x32", "2x64", "2x128"]) == {"all sizes": ["1x32", "2x64", "2x128"]}


def test_the_picture_has_a_line_for_each_family_and_a_plot_for_each_axis(tmp_path: Path) -> None:
    sizes = ("1x64", "2x64", "4x64", "2x32", "2x128")
    store = evaluated(tmp_path, {size: [falling(1000, 2)] for size in sizes})
    panels = LEARNING_CURVES.panels(LEARNING_CURVES.rows(store))
    assert [[{row["family"] for row in panel} for panel in line] for line in panels] == [
        [{"depths of width 64"}] * 4,
        [{"widths of depth 2"}] * 4,
    ]
    assert [panel[0]["axis"] for panel in panels[0]] == ["step", "training_seconds", "electra_flops", "flops"]
