"""What a study says of trunks and of runs that were planned for one budget, of stores made by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.studies.stores import trained
from tlc_jax import study
from tlc_jax.core.stacked import split
from tlc_jax.runs.load import load_model
from tlc_jax.studies.claims import outcomes
from tlc_jax.studies.compression_errors import untrained
from tlc_jax.studies.exhibits import EXHIBITS
from tlc_jax.studies.exhibits.equal_time import EQUAL_TIME
from tlc_jax.studies.exhibits.schedules import BRANCH, BRANCHES, CUTS, PLANNED, SCHEDULES
from tlc_jax.studies.exhibits.schedules import CUT as CUT_POINT
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.picture import save_panels
from tlc_jax.studies.statistics import difference_interval

STUDY = """
from tlc_jax.config import *
from tlc_jax.config.study_options import StudyConfig

def get_config():
    train = Config(
        model=ModelConfig(head_size=8, vocab_size=300, max_positions=32),
        data=DataConfig(dir={corpus!r}, sequence_length=32, held_out=0.1, cache_dir={cache!r}),
        schedule=ScheduleConfig(follows="training_seconds", warmup=0.06, cooldown=0.0),
        budget=BudgetConfig(training_seconds=0.2),
        checkpoint=CheckpointConfig(marks="1/2,1"),
        batch_size=16,
    )
    return StudyConfig(train=train, sizes=("1x16",), bits=(), sparsities=(), counted_in="steps")
"""
TRUNK = {"2x64": {"1/4": [1.200, 1.204, 1.208], "1": [1.000, 1.002, 1.007]}}
PLANS = {300: [1.201, 1.206, 1.202], 1200: [1.020, 1.022, 1.026]}
CUT = [1.300, 1.310, 1.306]
STEP = 0.9  # seconds: budgets are not a whole number of updates


def planned(
    store: ItemStore,
    plans: Mapping[int, Sequence[float]] = PLANS,
    cut: Sequence[float] = CUT,
    *,
    more: str = "",
    device: str = "2 cores of CPU",
    gate: float = 2.0,
    schedule: str = "schedule.cooldown=None",
    early: float = 0.25,
) -> ItemStore:
    """Adds runs that end after so many seconds; the longest are also evaluated at a quarter of them, or
    another share (`early`)."""
    for seconds, values in plans.items():
        for seed, value in enumerate(values):
            points = {seconds: (value, True)}
            if seconds == max(plans):
                points = {round(seconds * early): (cut[seed], False), **points}
            rows: list[dict[str, Any]] = [
                {
                    "set": "held_out",
                    "training_seconds": STEP * math.ceil(at / STEP),
                    "step": math.ceil(at / STEP),
                    "metric": "nats_per_byte",
                    "value": number,
                    "last": last,
                }
                for at, (number, last) in points.items()
            ]
            name = "target_bigram_nats_per_byte"
            rows.append({"set": "held_out", "metric": name, "value": gate, "step": 0, "last": False})
            variant = f"{more}{schedule},budget.training_seconds={seconds}"
            fields = {"size": "2x64", "variant": variant, "seed": seed, "mark": ""}
            store.seal(
                Result(
                    item=f"2x64,{variant}/seed{seed}/trained",
                    stage="train",
                    fields={**fields, "metric_of_task": "nats_per_byte"},
                    rows=rows,
                    made={"device": device},
                )
            )
    return store


def test_branches_and_cut_points_are_compared_with_runs_that_were_planned(tmp_path: Path) -> None:
    rows = SCHEDULES.rows(planned(trained(tmp_path, TRUNK, gate=2.0)))
    early, cut, late = SCHEDULES.sentences(rows)
    pairs = [(TRUNK["2x64"]["1/4"], PLANS[300]), (CUT, PLANS[300]), (TRUNK["2x64"]["1"], PLANS[1200])]
    tests: list[Any] = [stats.ttest_ind(*pair, equal_var=False) for pair in pairs]
    p = [test.pvalue for test in tests]
    assert p[1] < p[2] < 0.05 < p[0]
    covered = [test.confidence_interval() for test in tests]
    text = f"2x64 at 300 s: branch of a trunk - planned = +0.0010 [{covered[0].low:+.4f}, "
    assert early.startswith(text)
    assert early.endswith(f"nats per byte: not resolved over seeds, p = {p[0]:.2g}.")
    assert cut.startswith(f"2x64 at 300 s: cut from a longer run - planned = +{np.mean(CUT) - 1.203:.4f} [+")
    assert cut.endswith(f": resolved over seeds, p = {3 * p[1]:.2g}."), "corrected for three comparisons"
    assert late.startswith("2x64 at 1,200 s: branch of a trunk - planned = -0.0197 [-")
    assert late.endswith(f": resolved over seeds, p = {2 * p[2]:.2g}.")
    cells = [list(column.cells) for column in SCHEDULES.table(rows).columns]
    assert cells[1] == ["300", "1,200"]
    assert str(cells[4][0]).startswith("1.3053 [")
    assert cells[4][1] == "", "no run is longer"


def test_findings_point_where_the_claims_do(tmp_path: Path) -> None:
    findings = SCHEDULES.findings(SCHEDULES.rows(planned(trained(tmp_path, TRUNK, gate=2.0))))
    assert [finding.claim for finding in findings] == [BRANCHES, CUTS, BRANCHES]
    assert outcomes(findings) == ["holds"] * 3, "the first branch is worse by 0.0010, at a margin of 0.0120"
    worse = {"2x64": {"1": [1.050, 1.052, 1.057]}}
    [finding] = SCHEDULES.findings(SCHEDULES.rows(planned(trained(tmp_path / "worse", worse))))
    assert (finding.claim, finding.supports) == (BRANCHES, False)
    assert outcomes([finding]) == ["fails"]
    single = planned(trained(tmp_path / "one", {"2x64": {"1": [1.0]}}), {1200: [1.02]})
    [finding] = SCHEDULES.findings(SCHEDULES.rows(single))
    assert finding.p is None
    assert "one seed, so another may turn it" in SCHEDULES.sentences(SCHEDULES.rows(single))[0]


@pytest.mark.parametrize(
    ("worse", "outcome"), [(0.0, "holds"), (0.001, "holds"), (0.01, "not resolved"), (0.02, "fails")]
)
def test_a_branch_is_as_good_within_a_margin_of_one_percent(
    tmp_path: Path, worse: float, outcome: str
) -> None:
    branch = {"2x64": {"1": [1.0 + worse, 1.0001 + worse, 1.0002 + worse]}}
    rows = SCHEDULES.rows(planned(trained(tmp_path, branch), {1200: [1.0, 1.0001, 1.0002]}))
    [finding] = SCHEDULES.findings(rows)
    assert outcomes([finding]) == [outcome]
    assert finding.effect.endswith("nats per byte; the margin is 0.0100")


def test_what_is_above_its_gate_is_not_compared(tmp_path: Path) -> None:
    rows = SCHEDULES.rows(planned(trained(tmp_path, TRUNK, gate=1.1), gate=1.1))
    assert {finding.effect[:15] for finding in SCHEDULES.findings(rows)} == {"2x64 at 1,200 s"}
    assert SCHEDULES.sentences(rows)[-1] == (
        "Not comparable yet: 2x64 at 300 s, no better than the target bigram."
    )


def test_an_evaluation_just_before_the_end_of_a_planned_run_is_not_cut_from_a_longer_one(
    tmp_path: Path,
) -> None:
    """The runs of 1,200 s are evaluated 1 % before their end, too, where their rate has all but fallen."""
    branch = {"2x64": {"1": TRUNK["2x64"]["1"]}}
    rows = SCHEDULES.rows(planned(trained(tmp_path, branch), {1200: PLANS[1200]}, early=0.99))
    assert {row["kind"] for row in rows} == {BRANCH, PLANNED}


def test_each_planned_schedule_is_a_control_of_its_kind(tmp_path: Path) -> None:
    store = planned(trained(tmp_path, {"2x64": {"1": TRUNK["2x64"]["1"]}}), {1200: PLANS[1200]})
    rows = SCHEDULES.rows(planned(store, {1200: [1.10, 1.11, 1.12]}, schedule="schedule.cooldown=0.5"))
    means = {"0.5": 1.11, "None": np.mean(PLANS[1200])}
    assert [finding.effect.partition(" [")[0] for finding in SCHEDULES.findings(rows)] == [
        f"2x64, plan schedule.cooldown={plan} at 1,200 s: branch of a trunk - planned = {1.003 - mean:+.4f}"
        for plan, mean in means.items()
    ]


@pytest.mark.parametrize(("more", "device"), [("batch_size=512,", "2 cores of CPU"), ("", "another CPU")])
def test_runs_that_differ_in_more_than_their_schedule_are_no_controls(
    more: str, device: str, tmp_path: Path
) -> None:
    assert not SCHEDULES.rows(planned(trained(tmp_path, TRUNK), more=more, device=device))
    assert not SCHEDULES.rows(trained(tmp_path / "trunks", TRUNK)), "nor is there one"


def test_runs_with_budgets_of_their_own_are_left_out_of_equal_time(tmp_path: Path) -> None:
    rows = EQUAL_TIME.rows(planned(trained(tmp_path, TRUNK)))
    assert {row["stage"] for row in rows} == {"branch"}
    assert not EQUAL_TIME.rows(planned(ItemStore(tmp_path / "no_trunks")))


def test_an_interval_of_a_difference_is_none_where_seeds_say_nothing() -> None:
    one, other = np.array([1.0, 2.0]), np.array([1.0, 1.5])
    low, high = difference_interval(one, other) or (0.0, 0.0)
    assert low < 0.25 < high
    assert difference_interval(one, other[:1]) is None
    assert difference_interval(np.ones(3), np.zeros(3)) is None


@pytest.mark.parametrize(("updates", "same"), [(1, True), (-1, True), (2, False)])
def test_budgets_of_few_updates_are_the_same_up_to_one(tmp_path: Path, updates: int, same: bool) -> None:
    """Of ten updates in 300 seconds one is a tenth, and a run ends after a whole number of them."""
    seconds = round(300 * (1 + updates / 10))
    plans = {seconds: PLANS[300], 1200: PLANS[1200]}
    rows = SCHEDULES.rows(planned(trained(tmp_path, TRUNK, gate=2.0), plans))
    early = {row["kind"] for row in rows if row["mark"] == "1/4"}
    assert (PLANNED in early) is same


@pytest.mark.parametrize("plans", [PLANS, {300: PLANS[300]}])
def test_the_plot_draws(tmp_path: Path, plans: Mapping[int, Sequence[float]]) -> None:
    """Also without points that are cut from longer runs."""
    assert SCHEDULES in EXHIBITS
    rows = SCHEDULES.rows(planned(trained(tmp_path, TRUNK, gate=2.0), plans))
    assert (CUT_POINT in {row["kind"] for row in rows}) is (plans is PLANS)
    save_panels([(SCHEDULES.draw, rows)], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_study_has_trunks_and_runs_with_budgets_of_their_own(corpus: Path, tmp_path: Path) -> None:
    """A planned run ends where its branch does; one of a single update keeps its initial parameters."""
    document, workdir = tmp_path / "config.py", tmp_path / "study"
    document.write_text(STUDY.format(corpus=str(corpus), cache=str(tmp_path / "cache")))
    half, one = "schedule.cooldown=None,budget.training_seconds=0.1", "budget.training_seconds=1e-9"
    variants = ["--variants", "", half, f"schedule.cooldown=None,{one}"]
    study.main(["--config", str(document), "--workdir", str(workdir), *variants])
    store = ItemStore(workdir)
    ends = {row["item"]: row["step"] for row in store.rows(last=True)}
    assert abs(ends["1x16/seed0/at-1-2"] - ends[f"1x16,{half}/seed0/trained"]) <= 1
    assert {row["kind"] for row in SCHEDULES.rows(store)} >= {BRANCH, PLANNED}
    run = workdir / "runs" / f"1x16,schedule.cooldown=None,{one}" / "seed0" / "trained"
    model = load_model(str(run), warn=print)
    initial, kept = untrained(model), split(model.params)
    assert kept.keys() == initial.keys()
    for name, x in initial.items():
        np.testing.assert_array_equal(np.asarray(kept[name]), x)
