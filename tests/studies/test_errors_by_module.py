"""Errors by kind of matrix: what is left of a trend once untrained networks are divided away."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.studies.stores import trained
from tlc_jax.studies.exhibits.errors_by_module import PRUNING_ERROR, QUANTIZATION_ERROR, comparisons
from tlc_jax.studies.item_store import ItemStore, Result, Row

KINDS = {  # the error before training by that of a size, and the power of its growth: 1 in the mean
    "encoder/layers/attention/query/kernel": (1.0, 0.5),
    "embeddings/tokens": (3.0, 1.0),
    "decoder/layers/mlp/in": (0.2, 1.5),
}
PAPER = {"kind": "quantize", "bits": 4, "granularity": "tensor", "range": "minmax", "zero": "float"}
METHODS: list[Row] = [
    PAPER,
    {**PAPER, "granularity": "row", "range": "mse"},
    {"kind": "prune", "sparsity": 0.6},
]

Values = Mapping[str, tuple[float, Sequence[float]]]
"""By size: the error before training, and by seed how many times larger it is after it."""


def measured(
    workdir: Path,
    values: Values,
    *,
    losses: Mapping[str, float] | None = None,
    steps: Mapping[str, int] | None = None,
) -> ItemStore:
    """A store of errors. Losses are those of the trainings, whose gate is 1.4."""
    losses = losses or dict.fromkeys(values, 1.3)
    marks = {size: {"1": [losses[size]] * len(seeds)} for size, (_, seeds) in values.items()}
    trained(workdir / "first", marks, gate=1.4)
    store = ItemStore(workdir)
    for result in ItemStore(workdir / "first").results():
        size = str(result["fields"]["size"])
        rows = [{**row, "step": row["step"] and (steps or {}).get(size, 500)} for row in result["rows"]]
        store.seal(Result(**{**result, "rows": rows}))
    for size, (before, seeds) in values.items():
        for seed, after in enumerate(seeds):
            rows = [row for method in METHODS for row in _errors(method, before, after)]
            fields = {"size": size, "variant": "", "seed": seed, "mark": "1"}
            name = f"{size}/seed{seed}/at-1/errors"
            store.seal(Result(item=name, stage="errors", fields=fields, rows=rows, made={}))
    return store


def _errors(method: Row, before: float, after: float) -> list[Row]:
    rows: list[Row] = []
    for module, (scale, power) in {**KINDS, "all matrices": (99.0, 3.0)}.items():
        about: dict[str, Any] = {**method, "module": module, "tensors": 2, "deviation": 0.1, "step": 500}
        for metric in ("absolute_error", "relative_error"):
            rows.append({**about, "untrained": True, "metric": metric, "value": before * scale})
            rows.append(
                {**about, "untrained": False, "metric": metric, "value": before * scale * after**power}
            )
    return rows


FALLING = {"1x32": (0.04, (2.0, 2.2, 2.1)), "2x64": (0.03, (9.0,) * 3), "2x128": (0.01, (1.0, 1.1, 1.2))}


def test_the_ratio_to_untrained_networks_is_compared(tmp_path: Path) -> None:
    """Against scipy, of the logarithms of the factors; the geometric mean over kinds of matrices is the
    factor of a size, and the mean over all tensors has no influence."""
    rows = QUANTIZATION_ERROR.rows(measured(tmp_path, FALLING))
    made = comparisons(rows)
    assert [(each.small, each.large) for each in made] == [("1x32", "2x128")] * 4
    small, large = (np.log(FALLING[size][1]) for size in ("1x32", "2x128"))
    test = stats.ttest_ind(large, small, equal_var=False)
    for each in made:
        assert each.untrained == pytest.approx(0.25)
        assert each.left == pytest.approx(math.exp(large.mean() - small.mean()))
        assert each.trained == pytest.approx(each.left * 0.25)
        assert each.p == pytest.approx(test[1])
        assert each.interval == pytest.approx(tuple(np.exp(list(test.confidence_interval()))))


def test_depths_of_one_width_are_compared_apart_from_widths_of_one_depth(tmp_path: Path) -> None:
    sizes = ("1x64", "2x32", "2x64", "2x128", "4x64")
    rows = PRUNING_ERROR.rows(measured(tmp_path, dict.fromkeys(sizes, (0.1, (2.0,)))))
    ends = dict.fromkeys((each.small, each.large) for each in comparisons(rows))
    assert list(ends) == [("1x64", "4x64"), ("2x32", "2x128")]


def test_findings_are_of_the_papers_quantizer_and_of_pruning(tmp_path: Path) -> None:
    store = measured(tmp_path, FALLING)
    for exhibit in (QUANTIZATION_ERROR, PRUNING_ERROR):
        rows = exhibit.rows(store)
        findings = exhibit.findings(rows)
        assert len(findings) == 2, "absolute and relative"
        assert {finding.claim for finding in findings} == set(exhibit.claims)
        assert all(finding.supports and finding.p is not None and finding.p < 0.05 for finding in findings)
        assert all("[0." in finding.effect and "500 updates" in finding.effect for finding in findings)
    said = " ".join(QUANTIZATION_ERROR.sentences(QUANTIZATION_ERROR.rows(store)))
    assert "4 bits, tensor, minmax, zero float (paper), mean |v - w|: 2x128 has 0.13 of that of 1x32" in said
    assert "before training 0.25; a factor of 0.52 [" in said
    assert said.count("resolved over trainings") == 4


def test_errors_that_initial_values_explain_do_not_support_the_claim(tmp_path: Path) -> None:
    """The absolute error falls by 4, as it does without training; training adds to that of the larger."""
    values = {"1x32": (0.04, (2.0, 2.2, 2.1)), "2x128": (0.01, (2.3, 2.5, 2.4))}
    [first, _] = PRUNING_ERROR.findings(PRUNING_ERROR.rows(measured(tmp_path, values)))
    assert not first.supports
    assert "2x128 has 0.29 of that of 1x32, and before training 0.25" in first.effect


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": {"1x32": 900}}, "different numbers of them (1x32 900, 2x64 500, 2x128 500)"),
        ({"losses": {"1x32": 1.3, "2x64": 1.3, "2x128": 1.5}}, "Not judged: 2x128 is no better than counts"),
    ],
)
def test_what_is_not_judged(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    rows = PRUNING_ERROR.rows(measured(tmp_path, FALLING, **options))
    assert not PRUNING_ERROR.findings(rows)
    said = " ".join(PRUNING_ERROR.sentences(rows))
    assert words in said
    assert "resolved" not in said
    assert "a factor of" in said, "it is shown all the same"


def test_one_training_of_each_is_not_tested(tmp_path: Path) -> None:
    one = {size: (before, seeds[:1]) for size, (before, seeds) in FALLING.items()}
    rows = PRUNING_ERROR.rows(measured(tmp_path, one))
    assert [finding.p for finding in PRUNING_ERROR.findings(rows)] == [None, None]
    assert "another may turn it" in PRUNING_ERROR.sentences(rows)[0]


def test_the_table_has_every_kind_of_matrix_beside_its_control(tmp_path: Path) -> None:
    rows = QUANTIZATION_ERROR.rows(measured(tmp_path, FALLING))
    table = QUANTIZATION_ERROR.table(rows)
    assert table.row_count == 2 * 2 * len(KINDS)
    columns = {str(column.header): list(map(str, column.cells)) for column in table.columns}
    assert columns["matrix"][:3] == ["encoder/attention/query", "embeddings/tokens", "decoder/mlp/in"]
    assert columns["2x128"][0] == "0.0105 ± 0.1 (0.01)", "mean of the square roots"


def test_it_draws(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    PRUNING_ERROR.draw(axes, PRUNING_ERROR.rows(measured(tmp_path, FALLING)))
    bars: list[Any] = list(axes.patches)
    widths = sorted(round(bar.get_width(), 6) for bar in bars)
    expected = [
        scale * before * factor
        for scale, power in KINDS.values()
        for before, seeds in FALLING.values()
        for factor in (1.0, float(np.mean(np.array(seeds) ** power)))
    ]
    assert widths == pytest.approx(sorted(expected), abs=1e-6)


def test_a_store_without_errors_has_no_rows(tmp_path: Path) -> None:
    store = trained(tmp_path, {"1x32": {"1": [1.0]}})
    assert QUANTIZATION_ERROR.rows(store) == PRUNING_ERROR.rows(store) == []
