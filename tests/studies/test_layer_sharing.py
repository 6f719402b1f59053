"""The exhibits of shared layers: curves and memory, on stores whose numbers are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tlc_jax.studies.claims import outcomes
from tlc_jax.studies.exhibits.layer_sharing import LAYER_SHARING, WORSE_AFTER_TIME, WORSE_AFTER_UPDATES
from tlc_jax.studies.exhibits.memory_saved import LESS_MEMORY, MEMORY_SAVED
from tlc_jax.studies.item_store import ItemStore, Result

NONE, ALL, ATTENTION = "", "model.shared_layers=all", "model.shared_layers=attention"
MADE = {"device": "2 cores of CPU"}
STEPS = {NONE: 100, ATTENTION: 110, ALL: 125}
"""Updates at half of the budget: what is shared makes an update faster."""


def trained(
    workdir: Path,
    values: Mapping[str, Sequence[tuple[float, float]]],
    *,
    stage: str = "branch",
    gate: float = 3.0,
) -> ItemStore:
    """A store of 2x64: for each variant and seed the values at the marks 1/2 and 1."""
    store = ItemStore(workdir)
    for variant, seeds in values.items():
        for seed, both in enumerate(seeds):
            rows = []
            for part, value in zip((0.5, 1.0), both, strict=True):
                about = {"set": "held_out", "step": round(2 * part * STEPS[variant]), "parameters": 1000}
                about |= {"training_seconds": 600 * part, "last": stage == "branch" or part == 1}
                rows.append([{**about, "metric": "nats_per_byte", "value": value}])
            marks = ("1/2", "1") if stage == "branch" else ("",)
            groups = rows if stage == "branch" else [[row for point in rows for row in point]]
            for mark, chosen in zip(marks, groups, strict=True):
                first = {"metric": "target_bigram_nats_per_byte", "value": gate, "set": "held_out", "step": 0}
                fields = {"size": "2x64", "variant": variant, "seed": seed, "mark": mark}
                store.seal(
                    Result(
                        item=f"2x64,{variant}/seed{seed}/{stage}{mark.replace('/', '-')}",
                        stage=stage,
                        fields={**fields, "metric_of_task": "nats_per_byte"},
                        rows=[*chosen, {**first, "last": False}],
                        made=MADE,
                    )
                )
    return store


CURVES = {
    NONE: [(2.0, 1.50), (2.0, 1.51), (2.0, 1.52)],
    ATTENTION: [(2.1, 1.60), (2.1, 1.62), (2.1, 1.61)],
    ALL: [(2.3, 1.80), (2.3, 1.82), (2.3, 1.84)],
}


def test_shared_layers_are_worse_at_equal_time_and_after_equal_updates(tmp_path: Path) -> None:
    findings = LAYER_SHARING.findings(LAYER_SHARING.rows(trained(tmp_path, CURVES)))
    assert [finding.claim for finding in findings] == [WORSE_AFTER_TIME, WORSE_AFTER_UPDATES] * 2
    assert outcomes(findings) == ["holds"] * 4
    time, updates = findings[2:]
    _, p = stats.ttest_ind([1.80, 1.82, 1.84], [1.50, 1.51, 1.52], equal_var=False)
    assert time.p == pytest.approx(p)
    assert time.effect.startswith(
        "after 600 s, 2x64, all shared, leads the same size with nothing shared by -0.31"
    )
    # all trainings have made 200 updates; the shared ones reach them between their evaluations at 125 and 250
    part = math.log(200 / 125) / math.log(2)
    after = [2.3 + part * (end - 2.3) for end in (1.80, 1.82, 1.84)]
    _, p = stats.ttest_ind(after, [1.50, 1.51, 1.52], equal_var=False)
    assert updates.p == pytest.approx(p)
    assert updates.effect.startswith("after 200 updates, 2x64, all shared,")
    assert f" by {1.51 - np.mean(after):+.4f} [" in updates.effect


def test_a_claim_may_fail(tmp_path: Path) -> None:
    values = {NONE: CURVES[ALL], ALL: CURVES[NONE]}
    findings = LAYER_SHARING.findings(LAYER_SHARING.rows(trained(tmp_path, values)))
    assert outcomes(findings) == ["fails", "fails"]


def test_runs_without_branches_that_end_apart_are_compared_over_time_only(tmp_path: Path) -> None:
    rows = LAYER_SHARING.rows(trained(tmp_path, CURVES, stage="train"))
    assert {finding.claim for finding in LAYER_SHARING.findings(rows)} == {WORSE_AFTER_TIME}
    columns = {str(column.header): [*column.cells] for column in LAYER_SHARING.table(rows).columns}
    assert columns["after as many updates"] == ["", "", ""]
    assert columns["updates"] == ["200", "220", "250"]


def test_models_above_their_gate_give_no_finding(tmp_path: Path) -> None:
    rows = LAYER_SHARING.rows(trained(tmp_path, CURVES, gate=1.7))
    findings = LAYER_SHARING.findings(rows)
    assert len(findings) == 2
    assert all("attention shared" in finding.effect for finding in findings)
    assert any(
        "no better than the target bigram, 1.7000: 2x64, all shared" in s
        for s in LAYER_SHARING.sentences(rows)
    )


def test_sizes_that_share_nothing_have_no_rows(tmp_path: Path) -> None:
    assert LAYER_SHARING.rows(trained(tmp_path, {NONE: CURVES[NONE]})) == []
    assert MEMORY_SAVED.rows(ItemStore(tmp_path)) == []


def needed(
    workdir: Path, peaks: Mapping[str, int], *, network: str = "12x768,batch_size=32", **differs: int
) -> ItemStore:
    """A store of memory in MB: 4/10 of each peak parameters, optimizer and batch, the rest temporary."""
    store = ItemStore(workdir)
    for variant, peak in peaks.items():
        bytes_of = {"parameter_bytes": 0.1, "optimizer_bytes": 0.2, "temporary_bytes": 0.6, "peak_bytes": 1}
        about = {"layers": network.partition(",")[0], "batch_size": 32, "sequence_length": 128}
        about |= {"vocab_size": 50265, "compute_dtype": "float32", "remat": "none", "parameter_count": 7}
        about |= differs
        rows = [{**about, "metric": name, "value": int(n * peak * 1e6)} for name, n in bytes_of.items()]
        result = Result(item=f"memory/{network},{variant}", stage="memory", fields={}, rows=rows, made=MADE)
        store.seal({**result, "fields": {"network": network, "variant": variant}})
    return store


@pytest.mark.parametrize(
    ("shared", "outcome"), [(5900, "holds"), (6200, "holds"), (6700, "fails"), (5300, "fails")]
)
def test_the_memory_that_is_saved_is_compared_with_41_percent(
    tmp_path: Path, shared: int, outcome: str
) -> None:
    rows = MEMORY_SAVED.rows(needed(tmp_path, {NONE: 10_000, ATTENTION: 9000, ALL: shared}))
    [finding] = MEMORY_SAVED.findings(rows)
    assert finding.claim is LESS_MEMORY
    assert outcomes([finding]) == [outcome]
    assert (
        f"needs 10,000 MB, and {shared:,} MB with all shared: {100 - shared / 100:.0f} % less"
        in finding.effect
    )
    assert f"{0.6 * (10_000 - shared):,.0f} MB temporary" in finding.effect


def test_other_networks_and_batches_are_shown_and_not_compared_with_the_paper(tmp_path: Path) -> None:
    store = needed(tmp_path, {NONE: 10_000, ALL: 5900}, network="12x768,batch_size=64", batch_size=64)
    needed(tmp_path, {NONE: 100, ALL: 50}, network="2x64")
    rows = MEMORY_SAVED.rows(ItemStore(store.folder.parent))
    assert MEMORY_SAVED.findings(rows) == []
    columns = {str(column.header): [*column.cells] for column in MEMORY_SAVED.table(rows).columns}
    assert columns["network"] == ["12x768,batch_size=64", "", "2x64", ""]
    assert columns["saved"] == ["", "41.0 %", "", "50.0 %"]


@pytest.mark.parametrize("differs", [{"vocab_size": 8192}, {"sequence_length": 512}])
def test_a_network_with_another_vocabulary_or_length_is_no_roberta(
    tmp_path: Path, differs: dict[str, int]
) -> None:
    rows = MEMORY_SAVED.rows(needed(tmp_path, {NONE: 10_000, ALL: 5900}, **differs))
    assert rows
    assert MEMORY_SAVED.findings(rows) == []


def test_both_exhibits_are_drawn(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    rows = LAYER_SHARING.rows(trained(tmp_path, CURVES))
    [[over_time, over_updates]] = LAYER_SHARING.panels(rows)
    axes = Figure().subplots()
    LAYER_SHARING.draw(axes, over_updates)
    names = ["nothing shared", "attention shared", "all shared", "target bigram"]
    assert [line.get_label() for line in axes.get_lines()] == names
    assert np.asarray(axes.get_lines()[2].get_xdata()).tolist() == pytest.approx([125, 250])
    axes = Figure().subplots()
    LAYER_SHARING.draw(axes, over_time)
    assert np.asarray(axes.get_lines()[2].get_xdata()).tolist() == pytest.approx([300, 600])
    axes = Figure().subplots()
    MEMORY_SAVED.draw(axes, MEMORY_SAVED.rows(needed(tmp_path, {NONE: 10_000, ALL: 5900})))
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "12x768, nothing shared",
        "12x768, all shared",
    ]
    widths = [patch.get_extents().transformed(axes.transData.inverted()).width for patch in axes.patches]
    assert widths == pytest.approx([1000, 590, 2000, 1180, 6000, 3540])
