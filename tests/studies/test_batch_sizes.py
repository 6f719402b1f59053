"""What is said of batch sizes, of stores that are made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from tests.studies.stores import Point, evaluated
from tlc_jax.studies.claims import outcomes
from tlc_jax.studies.exhibits.batch_sizes import BATCH_SIZES
from tlc_jax.studies.item_store import ItemStore, Row

SEEDS = (0.0, 0.001, 0.003)
LAST = {  # nats per byte after 160 s
    ("2x64", 100): 1.50,
    ("2x64", 200): 1.46,
    ("2x64", 400): 1.48,
    ("2x128", 100): 1.40,
    ("2x128", 200): 1.41,
    ("2x128", 400): 1.47,
}


def halving(last: float, batch: int) -> list[Point]:
    """A training that is evaluated after 20, 40, 80 and 160 s, and falls by 0.1 in each; updates take as long
    as their batch is large."""
    return [(2000 * 2**i * 100 // batch, 20.0 * 2**i, last + 0.1 * (3 - i)) for i in range(4)]


def variant(batch: int, rate: float = 0.001) -> str:
    return f"batch_size={batch},optimizer.learning_rate={rate},schedule.warmup_steps={batch}"


def of_batches(
    workdir: Path,
    values: Mapping[tuple[str, int], float] = LAST,
    *,
    seeds: tuple[float, ...] = SEEDS,
    stage: str = "branch",
    gate: float | None = None,
) -> ItemStore:
    for (size, batch), last in values.items():
        trainings = {size: [halving(last + shift, batch) for shift in seeds]}
        about = {"variant": variant(batch), "tokens_per_step": 7 * batch, "stage": stage}
        evaluated(workdir, trainings, gate=gate, **about)  # type: ignore[arg-type]
    return ItemStore(workdir)


def test_each_size_and_batch_has_its_value_at_equal_time_updates_and_tokens(tmp_path: Path) -> None:
    rows = BATCH_SIZES.rows(of_batches(tmp_path, seeds=(0.0,)))
    table = BATCH_SIZES.table(rows)
    header, *cells = zip(*([column.header, *map(str, column.cells)] for column in table.columns), strict=True)
    assert header[3:] == ("at equal training seconds", "at equal updates", "at equal tokens")
    # the largest batch ends after 4,000 updates, to which the others come after 40 and 80 s
    assert cells[:4] == [
        ("2x64", "", "", "160", "4,000", "1.12e+07"),
        ("", "100", "0.001", "1.5000", "1.7000", "1.5000"),
        ("", "200", "0.001", "1.4600 *", "1.5600", "1.4600 *"),
        ("", "400", "0.001", "1.4800", "1.4800 *", "1.4800"),
    ]
    assert BATCH_SIZES.sentences(rows)[0] == (
        "The best batch size at equal training seconds: 200 of 2x64, 100 of 2x128."
    )


def test_a_batch_is_called_by_its_size_though_some_places_are_empty(tmp_path: Path) -> None:
    """As in updates of pairs, whose lengths do not fill a batch."""
    for batch, tokens in ((1000, 7000.0), (4000, 27_990.0)):
        points = halving(1.5, batch)
        evaluated(
            tmp_path, {"2x64": [points]}, variant=variant(batch), tokens_per_step=tokens, stage="branch"
        )
    assert {row["batch"] for row in BATCH_SIZES.rows(ItemStore(tmp_path))} == {1000, 4000}


def test_a_larger_model_is_compared_with_a_larger_batch(tmp_path: Path) -> None:
    rows = BATCH_SIZES.rows(of_batches(tmp_path))
    findings = BATCH_SIZES.findings(rows)
    of_size = [finding for finding in findings if finding.claim.name == "size-not-batch"]
    values = {key: np.array(SEEDS) + last for key, last in LAST.items()}
    for finding, (batch, larger) in zip(of_size, ((100, 200), (200, 400)), strict=True):
        one, other = values["2x128", batch], values["2x64", larger]
        test = stats.ttest_ind(other, one, equal_var=False)
        low, high = test.confidence_interval()
        assert finding.effect == (
            f"after 160 s, the lead of 2x128 with a batch of {batch} over 2x64 with one of {larger} is "
            f"{other.mean() - one.mean():+.4f} [{low:+.4f}, {high:+.4f}] nats per byte"
        )
        assert finding.p == pytest.approx(test.pvalue)
    of_updates = [finding for finding in findings if finding.claim.name == "batch-fewer-updates"]
    assert [finding.effect[: finding.effect.index(" is ")] for finding in of_updates] == [
        f"after 4,000 updates of {size}, the lead of a batch of {larger} over one of {smaller}"
        for size in ("2x64", "2x128")
        for smaller, larger in ((100, 200), (200, 400))
    ]
    assert set(outcomes(findings)) == {"holds"}


def test_a_larger_batch_may_gain_more(tmp_path: Path) -> None:
    values = {**LAST, ("2x64", 200): 1.3, ("2x64", 400): 1.3}
    findings = BATCH_SIZES.findings(BATCH_SIZES.rows(of_batches(tmp_path, values)))
    judged = zip(findings, outcomes(findings), strict=True)
    assert [outcome for finding, outcome in judged if finding.claim.name == "size-not-batch"] == ["fails"] * 2


def test_sizes_that_are_trained_for_different_times_are_not_compared(tmp_path: Path) -> None:
    """Budgets of updates: 2x64 has ended after 75 s, 2x128 after 300 s, which alone may make it better."""
    for (size, batch), last in LAST.items():
        slow = (75 if size == "2x64" else 300) / 160
        points = [[(step, slow * s, v + shift) for step, s, v in halving(last, batch)] for shift in SEEDS]
        evaluated(tmp_path, {size: points}, variant=variant(batch), tokens_per_step=7 * batch)
    rows = BATCH_SIZES.rows(ItemStore(tmp_path))
    costs = [column.cells for column in BATCH_SIZES.table(rows).columns][3]
    assert [cell for cell in costs if "." not in str(cell)[:2]] == ["75", "300"]
    assert {finding.claim.name for finding in BATCH_SIZES.findings(rows)} == {"batch-fewer-updates"}


def test_a_seed_that_has_not_ended_yet_moves_no_comparison(tmp_path: Path) -> None:
    """The last seed of 2x64 has only finished its first branch, at 20 s."""
    store = of_batches(tmp_path)
    for batch in (100, 200, 400):
        for mark in (2, 3, 4):
            store.path(f"2x64,{variant(batch)}/seed2/branch{mark}").unlink()
    findings = BATCH_SIZES.findings(BATCH_SIZES.rows(ItemStore(tmp_path)))
    of_size = [finding.effect for finding in findings if finding.claim.name == "size-not-batch"]
    assert [effect.partition(",")[0] for effect in of_size] == ["after 160 s"] * 2


def _rates(workdir: Path, seeds: tuple[float, ...]) -> list[Row]:
    """Those of a study where a batch of 400 of 2x64 has three rates: by the first seed 0.002 is the best, by
    all others 0.004."""
    store = of_batches(workdir, seeds=seeds)
    for rate, lasts in ((0.002, (1.3, 1.6, 1.61)), (0.004, (1.4, 1.2, 1.21))):
        trainings = {"2x64": [halving(last, 400) for last in lasts[: len(seeds)]]}
        evaluated(workdir, trainings, variant=variant(400, rate), tokens_per_step=2800)
    return BATCH_SIZES.rows(store)


def test_the_first_seed_chooses_the_learning_rates_and_is_compared_nowhere(tmp_path: Path) -> None:
    rows = _rates(tmp_path, SEEDS)
    rates = {(row["size"], row["batch"]): row["learning_rate"] for row in rows}
    assert rates == {**dict.fromkeys(LAST, "0.001"), ("2x64", 400): "0.002"}
    assert {row["seed"] for row in rows} == {1, 2}
    cells = BATCH_SIZES.table(rows).columns[3].cells
    assert [str(cell)[:6] for cell in cells][3] == "1.6050", "though it is worse than 0.001 by these"
    assert "Learning rates are chosen by the last values of seed 0, which is compared nowhere." in (
        BATCH_SIZES.sentences(rows)
    )


def test_a_single_seed_chooses_and_is_shown_and_that_is_said(tmp_path: Path) -> None:
    rows = _rates(tmp_path, SEEDS[:1])
    assert {row["learning_rate"] for row in rows if row["batch"] == 400} == {"0.001", "0.002"}
    [said] = [text for text in BATCH_SIZES.sentences(rows) if "chosen" in text]
    assert said.endswith("seed 0, the only one, so what has several is favoured.")


def test_models_above_their_gate_and_single_seeds_resolve_nothing(tmp_path: Path) -> None:
    above = BATCH_SIZES.findings(BATCH_SIZES.rows(of_batches(tmp_path / "above", gate=1.405)))
    assert above == [], "in each comparison a model is above"
    single = BATCH_SIZES.findings(BATCH_SIZES.rows(of_batches(tmp_path / "single", seeds=(0.0,))))
    assert {finding.p for finding in single} == {None}


def test_runs_whose_rate_falls_are_compared_at_equal_time_and_tokens(tmp_path: Path) -> None:
    """At equal updates, the rate of a larger batch would have fallen further."""
    rows = BATCH_SIZES.rows(of_batches(tmp_path, stage="train"))
    assert {finding.claim.name for finding in BATCH_SIZES.findings(rows)} == {"size-not-batch"}
    assert any(text.startswith("Not compared over updates:") for text in BATCH_SIZES.sentences(rows))


def test_the_batch_of_the_study_itself_is_known_by_its_tokens(tmp_path: Path) -> None:
    values = {"2x64": [halving(1.5, 200)]}
    for of, tokens in ((variant(400), 2800), ("", 1400)):
        evaluated(tmp_path, values, variant=of, tokens_per_step=tokens)
    rows = BATCH_SIZES.rows(ItemStore(tmp_path))
    assert {(row["batch"], row["learning_rate"]) for row in rows} == {(400, "0.001"), (200, "")}


@pytest.mark.parametrize(
    "variants", [("", "optimizer.learning_rate=0.1"), ("", "batch_size=8,data_share=0.5")]
)
def test_a_study_of_one_batch_size_has_no_rows(tmp_path: Path, variants: tuple[str, ...]) -> None:
    for of in variants:
        evaluated(tmp_path, {"2x64": [halving(1.5, 100)]}, variant=of)
    assert BATCH_SIZES.rows(ItemStore(tmp_path)) == []


def test_the_picture_has_a_line_of_plots_for_each_size(tmp_path: Path) -> None:
    panels = BATCH_SIZES.panels(BATCH_SIZES.rows(of_batches(tmp_path)))
    axes = Figure().subplots()
    assert [len(line) for line in panels] == [3, 3]
    BATCH_SIZES.draw(axes, panels[1][0])
    assert axes.get_title() == "2x128"
    assert axes.get_legend_handles_labels()[1] == ["batch of 100", "batch of 200", "batch of 400"]
