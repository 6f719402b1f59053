"""The exhibit of shares of the data, on stores whose numbers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tlc_jax.studies.claims import outcomes
from tlc_jax.studies.exhibits.data_share import DATA_SHARE, OVERFITS, SMALL_STILL_GAIN, SMALLER_LEAD
from tlc_jax.studies.exhibits.equal_time import EQUAL_TIME
from tlc_jax.studies.item_store import ItemStore, Result

Values = Mapping[str, Sequence[tuple[float, float]]]
"""For each size and seed the nats per byte at the marks 1/2 and 1."""
ALL: Values = {
    "1x32": [(2.0, 1.90), (2.0, 1.91), (2.0, 1.92)],
    "2x64": [(1.8, 1.60), (1.8, 1.61), (1.8, 1.63)],
    "2x128": [(1.7, 1.40), (1.7, 1.42), (1.7, 1.41)],
}
FIVE: Values = {
    "1x32": [(2.0, 1.95), (2.0, 1.96), (2.0, 1.97)],
    "2x64": [(1.8, 1.75), (1.8, 1.76), (1.8, 1.74)],
    "2x128": [(1.7, 1.74), (1.7, 1.75), (1.7, 1.76)],
}
ONE: Values = {
    "1x32": [(2.1, 2.10), (2.1, 2.11), (2.1, 2.12)],
    "2x64": [(1.9, 2.00), (1.9, 2.01), (1.9, 2.02)],
    "2x128": [(1.89, 2.40), (1.9, 2.41), (1.91, 2.43)],
}
GATES = {1.0: 2.2, 0.05: 2.3, 0.01: 2.35}


def stored(workdir: Path, shares: Mapping[float, Values], gates: Mapping[float, float] = GATES) -> ItemStore:
    """A store of branches, whose losses are ten times their nats per byte, and those of training a tenth."""
    store = ItemStore(workdir)
    for share, sizes in shares.items():
        variant = "" if share == 1 else f"data_share={share}"
        for size, seeds in sizes.items():
            for seed, values in enumerate(seeds):
                for mark, value in zip(("1/2", "1"), values, strict=True):
                    part = 1.0 if mark == "1" else 0.5
                    about = {"set": "held_out", "step": int(100 * part), "training_seconds": 600 * part}
                    about |= {"epoch": 2 * part / share, "training_loss": value, "last": True}
                    rows = [
                        {**about, "metric": "nats_per_byte", "value": value},
                        {**about, "metric": "loss", "value": 10 * value},
                        {**about, "metric": "target_bigram_nats_per_byte", "value": gates[share]}
                        | {"step": 0, "last": False},
                    ]
                    fields = {"size": size, "variant": variant, "seed": seed, "mark": mark}
                    name = f"{size},{variant}/seed{seed}/at-{mark.replace('/', '-')}"
                    made = {"device": "2 cores of CPU"}
                    fields["metric_of_task"] = "nats_per_byte"
                    store.seal(Result(item=name, stage="branch", fields=fields, rows=rows, made=made))
    return store


@pytest.fixture
def rows(tmp_path: Path) -> list:
    return DATA_SHARE.rows(stored(tmp_path, {1.0: ALL, 0.05: FIVE, 0.01: ONE}))


def test_the_claims_of_the_paper_hold_where_they_were_made_to_hold(rows: list) -> None:
    findings = DATA_SHARE.findings(rows)
    assert [finding.claim for finding in findings] == [SMALLER_LEAD, OVERFITS, SMALL_STILL_GAIN]
    assert outcomes(findings) == ["holds"] * 3


def test_the_change_of_a_lead_is_tested_over_the_differences_of_each_seed(rows: list) -> None:
    [finding] = [each for each in DATA_SHARE.findings(rows) if each.claim is SMALLER_LEAD]
    before, lead = np.array([0.20, 0.19, 0.22]), np.array([0.01, 0.01, -0.02])
    _, p = stats.ttest_ind(lead, before, equal_var=False)
    _, p_before = stats.ttest_ind([1.60, 1.61, 1.63], [1.40, 1.42, 1.41], equal_var=False)
    assert finding.p == pytest.approx(max(p, p_before)), "there was a lead, and it is smaller"
    assert f"{before.mean():+.4f} [" in finding.effect
    assert f"a change of {lead.mean() - before.mean():+.4f} [" in finding.effect
    assert "after 600 s" in finding.effect


def test_to_overfit_is_to_be_worse_than_the_smaller_one_than_before_and_than_with_all_data(
    rows: list,
) -> None:
    [finding] = [each for each in DATA_SHARE.findings(rows) if each.claim is OVERFITS]
    larger, smaller = [2.40, 2.41, 2.43], [2.00, 2.01, 2.02]
    leads, with_all_data = np.subtract(smaller, larger), np.array([0.20, 0.19, 0.22])
    pairs = [(larger, smaller), (leads, with_all_data), (larger, [1.89, 1.90, 1.91])]
    assert finding.p == pytest.approx(max(stats.ttest_ind(*pair, equal_var=False)[1] for pair in pairs))
    interval = stats.ttest_ind(smaller, larger, equal_var=False).confidence_interval(0.95)
    assert f"a lead of -0.4033 [{interval.low:+.4f}, {interval.high:+.4f}]" in finding.effect
    assert f"a change of {leads.mean() - with_all_data.mean():+.4f} [" in finding.effect
    assert "the best evaluation of 2x128 before its end is +0.5133 [" in finding.effect
    # the loss is 10 times the value, and that of the last updates is the value
    assert f"{9 * np.mean(larger):+.2f} nats a prediction for 2x128" in finding.effect


def seeds(
    before: float, end: float, shifts: tuple[float, ...] = (0.0, 0.001, 0.003)
) -> list[tuple[float, float]]:
    return [(before + shift, end + shift) for shift in shifts]


@pytest.mark.parametrize(
    ("all_data", "largest", "verdict"),
    [
        (1.60, (1.9, 1.70), "fails"),  # as much worse with all data, and still improving: it is undertrained
        (1.40, (1.9, 1.70), "fails"),  # it lost its lead, yet was never better than at its end
        (1.60, (1.65, 1.70), "fails"),  # it was better, yet is behind with all data too
        (1.40, (1.65, 1.70), "holds"),
    ],
)
def test_a_model_that_is_merely_worse_does_not_overfit(
    tmp_path: Path, all_data: float, largest: tuple[float, float], verdict: str
) -> None:
    whole = {"2x128": seeds(1.8, 1.50), "3x192": seeds(1.9, all_data, (0.0, 0.003, 0.001))}
    few = {"2x128": seeds(1.8, 1.62), "3x192": seeds(*largest, (0.004, 0.002, 0.0))}
    findings = DATA_SHARE.findings(DATA_SHARE.rows(stored(tmp_path, {1.0: whole, 0.01: few})))
    assert outcomes([each for each in findings if each.claim is OVERFITS]) == [verdict]


def test_a_lead_that_was_none_cannot_be_smaller(tmp_path: Path) -> None:
    whole = {"2x128": seeds(1.8, 1.50), "3x192": seeds(1.9, 1.60, (0.0, 0.003, 0.001))}
    few = {"2x128": seeds(1.8, 1.50), "3x192": seeds(1.9, 1.80)}
    assert DATA_SHARE.findings(DATA_SHARE.rows(stored(tmp_path, {1.0: whole, 0.05: few}))) == []


def test_a_claim_may_fail(tmp_path: Path) -> None:
    """With 1 % of the data nothing overfits here, and the largest leads by more with 5 %."""
    more = {**ALL, "2x128": [(1.7, 1.20), (1.7, 1.21), (1.7, 1.19)]}
    findings = DATA_SHARE.findings(DATA_SHARE.rows(stored(tmp_path, {1.0: ALL, 0.05: more, 0.01: ALL})))
    assert outcomes(findings) == ["fails", "fails", "holds"]


def test_the_table_says_how_often_the_data_were_seen(rows: list) -> None:
    table = DATA_SHARE.table(rows)
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    assert columns["share"] == ["100 %"] * 3 + ["5 %"] * 3 + ["1 %"] * 3
    assert columns["passes"] == ["2.0"] * 3 + ["40.0"] * 3 + ["200.0"] * 3
    assert [cell.startswith("2.0100") and cell.endswith("*") for cell in columns["at the end"]][7]
    assert columns["at best"][8] == "1.9000"  # it was better at half of its budget
    assert columns["gap"][8] == f"{9 * np.mean([2.40, 2.41, 2.43]):+.3f}"


def test_a_model_that_was_better_than_its_gate_before_it_overfitted_counts(tmp_path: Path) -> None:
    """The largest model ends above the gate of 1 %, and was below it at half of its budget."""
    rows = DATA_SHARE.rows(stored(tmp_path, {1.0: ALL, 0.01: ONE}))
    assert OVERFITS in [finding.claim for finding in DATA_SHARE.findings(rows)]


def test_models_above_the_gate_of_their_own_data_give_no_finding(tmp_path: Path) -> None:
    rows = DATA_SHARE.rows(stored(tmp_path, {1.0: ALL, 0.01: ONE}, {1.0: 2.2, 0.01: 1.85}))
    assert DATA_SHARE.findings(rows) == []
    assert any("With 1 % of the data the sizes are not comparable" in s for s in DATA_SHARE.sentences(rows))
    assert any(s.startswith("With all data 2x128 ends best, at 1.4100") for s in DATA_SHARE.sentences(rows))


def test_one_seed_resolves_nothing(tmp_path: Path) -> None:
    single = [{size: seeds[:1] for size, seeds in each.items()} for each in (ALL, FIVE, ONE)]
    rows = DATA_SHARE.rows(stored(tmp_path, dict(zip((1.0, 0.05, 0.01), single, strict=True))))
    assert [finding.p for finding in DATA_SHARE.findings(rows)] == [None] * 3
    assert any("one seed" in sentence for sentence in DATA_SHARE.sentences(rows))


def test_trainings_that_have_not_ended_yet_are_not_compared(tmp_path: Path) -> None:
    store = stored(tmp_path, {1.0: ALL, 0.05: FIVE, 0.01: ONE})
    for seed in range(3):
        store.path(f"2x128,data_share=0.01/seed{seed}/at-1").unlink()
    findings = DATA_SHARE.findings(DATA_SHARE.rows(ItemStore(tmp_path)))
    assert OVERFITS not in [finding.claim for finding in findings], "nor is the next smaller one the largest"


def test_no_gate_of_one_share_is_shown_for_all(tmp_path: Path) -> None:
    store = stored(tmp_path, {1.0: ALL, 0.05: FIVE})
    assert EQUAL_TIME.table(EQUAL_TIME.rows(store)).caption == "* best, where all are comparable"
    whole = stored(tmp_path / "whole", {1.0: ALL})
    assert (
        EQUAL_TIME.table(EQUAL_TIME.rows(whole)).caption
        == "* best, where all are comparable; target bigram 2.2000"
    )


@pytest.mark.parametrize("shares", [{1.0: ALL}, {0.05: FIVE}])
def test_a_store_with_one_share_has_no_rows(tmp_path: Path, shares: Mapping[float, Values]) -> None:
    assert DATA_SHARE.rows(stored(tmp_path, shares)) == []


def test_each_share_has_a_plot(rows: list) -> None:
    from matplotlib.figure import Figure

    [panels] = DATA_SHARE.panels(rows)
    titles = []
    for panel in panels:
        axes = Figure().subplots()
        DATA_SHARE.draw(axes, panel)
        titles.append(axes.get_title())
        assert [line.get_label() for line in axes.get_lines()] == ["1x32", "2x64", "2x128", "target bigram"]
    assert titles == ["all data", "5 % of the data", "1 % of the data"]
