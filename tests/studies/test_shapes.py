"""What is said of depth and width, of stores that are made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from tests.studies.stores import Point, evaluated
from tlc_jax.studies.claims import outcomes
from tlc_jax.studies.exhibits.shapes import SHAPES
from tlc_jax.studies.item_store import Row

SEEDS = (0.0, 0.002, 0.004)
SIZES = ("2x32", "1x64", "2x64", "4x64", "2x128")


def loss(size: str, shape: float) -> float:
    """Falls by 0.1 with each doubling of the parameters, and is worse by `shape` with each doubling of the
    depth at equal parameters."""
    depth, width = map(int, size.split("x"))
    return 2 - 0.1 * np.log2(depth * width**2) + shape * np.log2(depth)


def rows_of(workdir: Path, shape: float, gate_name: str = "two_sided_bigram", gate: float = 2.0) -> list[Row]:
    def training(size: str, shift: float) -> list[Point]:
        return [(steps, steps / 10.0, loss(size, shape) + shift) for steps in (100, 400)]

    trainings = {size: [training(size, shift) for shift in SEEDS] for size in SIZES}
    return SHAPES.rows(evaluated(workdir, trainings, gate=gate, gate_name=gate_name))


def test_parameters_change_more_than_a_shape_that_matters_little(tmp_path: Path) -> None:
    """4x64 has the parameters of 2x90.5, halfway from 2x64 to 2x128 over their logarithm."""
    less, more = SHAPES.findings(rows_of(tmp_path, 0.01))
    assert less.claim.name == more.claim.name == "parameters-not-shape"
    a = stats.sem(SEEDS)
    error, parts = a * 1.5**0.5, [a**2, a**2 / 4, a**2 / 4]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    half = stats.t.ppf(0.975, freedom) * error
    assert more.effect.startswith(
        f"after 400 updates, 4x64 is +0.0100 [{0.01 - half:+.4f}, {0.01 + half:+.4f}] nats per byte worse "
        "than 2 layers with as many parameters (between 2x64 and 2x128); "
        "the larger of it and 2x64 is +0.0900 ["
    )
    assert "1x64 is -0.0100 [" in less.effect
    assert outcomes([less, more]) == ["holds", "holds"]


def test_a_shape_that_matters_more_than_parameters_contradicts(tmp_path: Path) -> None:
    findings = SHAPES.findings(rows_of(tmp_path, -0.3))
    assert outcomes(findings) == ["fails", "fails"], "deeper gains 0.4 by parameters and shape, 0.3 by shape"
    findings = SHAPES.findings(rows_of(tmp_path / "worse", 0.08))
    assert outcomes(findings) == ["fails", "fails"], "deeper gains 0.02, and loses 0.08 by its shape"


def test_a_shape_that_matters_nearly_as_much_as_parameters_is_not_weak(tmp_path: Path) -> None:
    """The parameters change by 0.1 + or - the shape; the shape is weak below a third of that."""
    for shape, verdicts in ((0.02, ["holds"] * 2), (0.049, ["fails"] * 2), (-0.09, ["fails"] * 2)):
        findings = SHAPES.findings(rows_of(tmp_path / str(shape), shape))
        assert outcomes(findings) == verdicts, shape


def test_translation_is_asked_whether_wider_is_better(tmp_path: Path) -> None:
    for shape, verdict in ((0.02, "holds"), (-0.02, "fails")):
        findings = SHAPES.findings(rows_of(tmp_path / verdict, shape, "target_bigram"))
        assert {finding.claim.name for finding in findings} == {"translation-wider-not-deeper"}
        assert outcomes(findings) == [verdict] * 2


def test_no_finding_with_a_model_above_its_gate(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, 0.01, gate=loss("2x32", 0.01) - 0.01)
    [finding] = SHAPES.findings(rows)
    assert "4x64" in finding.effect
    assert (
        SHAPES.sentences(rows)[-1] == "Sizes that are no better than the two-sided bigram are not compared."
    )


def test_a_store_without_two_families_has_no_rows(tmp_path: Path) -> None:
    trainings = {size: [[(100, 10.0, 2.0), (400, 40.0, 1.9)]] for size in SIZES[1:]}
    assert SHAPES.rows(evaluated(tmp_path, trainings)) == []


def test_the_plot_has_a_line_for_each_family(tmp_path: Path) -> None:
    axes = Figure().subplots()
    SHAPES.draw(axes, rows_of(tmp_path, 0.01))
    assert axes.get_legend_handles_labels()[1] == ["depths of width 64", "widths of depth 2"]
