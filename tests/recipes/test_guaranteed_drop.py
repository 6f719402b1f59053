"""The limit of the drop in accuracy: its coverage counted out, and that of the recipe that is taken."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.golden import make_d21cde9
from tlc_jax import compress
from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.config.compression import CompressConfig
from tlc_jax.core.errors import UserError
from tlc_jax.recipes import budget_rules, budget_search, guaranteed_drop, sensitivity
from tlc_jax.recipes.drop_bound import chance, drop_bound, least_drop
from tlc_jax.recipes.guaranteed_drop import in_order
from tlc_jax.tasks.classification import Classification


@pytest.mark.parametrize(("examples", "drop", "confidence"), [(14, 0.25, 0.95), (20, 0.1, 0.8)])
def test_a_drop_that_is_too_large_passes_as_seldom_as_is_said(
    examples: int, drop: float, confidence: float
) -> None:
    """The probability of each outcome, summed over those that pass, for many p and q with p - q >= drop."""
    outcomes = [(b, c) for b, c in itertools.product(range(examples + 1), repeat=2) if b + c <= examples]
    passing = [each for each in outcomes if chance(examples, *each, drop, confidence) <= 1 - confidence]
    largest = 0.0
    for q in np.linspace(0, (1 - drop) / 2, 40):
        for p in (drop + q, drop + q + 0.03):
            if p + q <= 1:
                cells = [(b, c, examples - b - c) for b, c in passing]
                total = stats.multinomial(examples, [p, q, 1 - p - q]).pmf(cells).sum()
                largest = max(largest, float(total))
    assert largest <= 1 - confidence
    assert largest > 0.5 * (1 - confidence), "and not much more seldom"


def test_the_limit_without_a_difference_is_that_of_a_binomial() -> None:
    """(1 - d)^n = alpha; a fiftieth of alpha is set aside."""
    for examples, confidence in ((100, 0.95), (1000, 0.95), (1000, 0.99)):
        exact = 1 - (1 - confidence) ** (1 / examples)
        assert exact <= least_drop(examples, confidence) <= 1.015 * exact


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (5, 0), (3, 9), (12, 10), (40, 20), (0, 6)])
def test_limits_lie_between_the_normal_one_and_those_of_both_counts(lost: int, gained: int) -> None:
    n, confidence = 1000, 0.95
    limit = drop_bound(n, lost, gained, confidence)
    spread = math.sqrt(lost + gained - (lost - gained) ** 2 / n)
    assert limit >= max(0.0, (lost - gained + stats.norm.isf(0.05) * spread) / n) - 1e-9
    most = stats.beta.isf(0.025, lost + 1, n - lost)
    least = stats.beta.ppf(0.025, gained, n - gained + 1) if gained else 0.0
    assert limit < most - least
    assert chance(n, lost, gained, limit, confidence) <= 0.05
    assert limit == 0 or chance(n, lost, gained, 0.9 * limit, confidence) > 0.05
    assert drop_bound(n, lost + 1, gained, confidence) >= limit >= drop_bound(n, lost, gained + 1, confidence)


def predictions(drops: list[float], examples: int) -> tuple[np.ndarray, np.ndarray]:
    """A table of who is right: one row before compression, and one for each recipe, which is wrong on 2 %
    more examples than those that it gains, and on each `drop` more, exactly."""
    rng = np.random.default_rng(0)
    before = rng.random(examples) < 0.9
    after = np.tile(before, (len(drops), 1))
    right, wrong = (rng.permutation(np.flatnonzero(each)) for each in (before, ~before))
    for row, drop in zip(after, drops, strict=True):
        both = round(0.01 * examples)
        row[right[: both + round(drop * examples)]] = False
        row[wrong[:both]] = True
    return before, after


def violations(drops: list[float], max_drop: float, resamples: int) -> tuple[int, list[int]]:
    """(how often a recipe was taken that loses more than it may, how often each was taken)."""
    before, after = predictions(drops, 20_000)
    rng, taken = np.random.default_rng(1), [0] * len(drops)
    for _ in range(resamples):
        rows = rng.integers(0, len(before), 300)
        tests = list(in_order(before[rows], iter(after[:, rows]), max_drop, 0.95))
        if passed := sum(test.passed for test in tests):
            taken[passed - 1] += 1
    too_much = [drop > max_drop for drop in drops]
    return sum(count for count, wrong in zip(taken, too_much, strict=True) if wrong), taken


@pytest.mark.slow
def test_one_recipe_of_twenty_loses_more_than_it_may_at_most() -> None:
    """1,000 tuning sets drawn from a table of predictions. The first recipe that is wrong is so by 0.05 % of
    all examples, so that the limit is all but reached."""
    wrong, taken = violations([0.0, 0.01, 0.0505, 0.0506, 0.08], 0.05, 1000)
    assert wrong <= 50
    assert taken[1] > 500, "and what is good is taken"


def test_tests_end_with_the_first_that_fails() -> None:
    before, after = predictions([0.0, 0.2, 0.0], 2000)
    asked = []

    def answers():
        for number, row in enumerate(after):
            asked.append(number)
            yield row

    tests = list(in_order(before, answers(), 0.02, 0.95))
    assert [test.passed for test in tests] == [True, False]
    assert asked == [0, 1]


def test_what_contradicts_it_is_refused() -> None:
    for options in ({"target_mb": 1.0}, {"bits": 32}):
        with pytest.raises(ValueError, match="max_drop chooses among 8 bits"):
            CompressConfig(max_drop=0.01, **options)
    with pytest.raises(ValueError, match=r"confidence must be in \[0.5, 1\)"):
        CompressConfig(max_drop=0.01, confidence=1.0)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run with 19 examples to tune on."""
    return make_d21cde9.unpacked(tmp_path_factory.mktemp("old") / "work") / "classifier"


@pytest.mark.slow
def test_compress_takes_the_fewest_bits_that_pass(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    compress.main([str(classifier), "--bits", "2", "--max-drop", "0.3", "--out", str(out)])
    manifest = read_artifact(out).manifest
    report, said = manifest["guarantee"], capsys.readouterr().out
    passed = [test for test in report["tests"] if test["passed"]]
    assert passed
    assert report["bits"] == passed[-1]["bits"] == manifest["compression"]["bits"]
    assert report["examples"] == 19
    for test in report["tests"]:
        assert test["bound"] == drop_bound(19, test["lost"], test["gained"], 0.95)
        assert test["passed"] == (test["bound"] <= 0.3)
        assert f"{test['lost']} lost, {test['gained']} gained: a drop of at most {test['bound']:.4f}" in said
    assert {entry["bits"] for entry in manifest["tensors"].values()} == {report["bits"]}


@pytest.mark.slow
def test_mixes_are_made_without_the_tuning_set(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have nine tenths of the bytes before, and the last that passes is written."""
    reads, making = Classification.evaluation_batches, [False]
    ordered, sizes = guaranteed_drop.mixed_sequence, list[int]()

    def watched(*arguments: Any) -> Any:
        assert not making[0], "the tuning set was read"
        return reads(*arguments)

    def sequence(*arguments: Any) -> Iterator[Any]:
        made = ordered(*arguments)
        while True:
            making[0] = True
            each = next(made, None)
            making[0] = False
            if each is None:
                return
            sizes.append(each[1].file_bytes("plain"))
            yield each

    monkeypatch.setattr(Classification, "evaluation_batches", watched)
    monkeypatch.setattr(guaranteed_drop, "mixed_sequence", sequence)
    monkeypatch.setattr(guaranteed_drop, "_MIXES", 1)
    monkeypatch.setattr(budget_rules, "GRANULARITIES", ("tensor",))
    for module in (budget_search, sensitivity):  # fewer programs to compile
        monkeypatch.setattr(module, "BITS", (8, 4))
        monkeypatch.setattr(module, "SPARSITIES", (0.0, 0.45))
    out = tmp_path / "out"
    compress.main([str(classifier), "--mixed-bits", "--max-drop", "0.9", "--out", str(out)])
    limits = [sizes[0] * 0.9**power for power in range(2)]
    assert all(0.85 * limit < size <= limit for size, limit in zip(sizes, limits, strict=True))
    manifest = read_artifact(out).manifest
    report = manifest["guarantee"]
    assert [test.get("bits") for test in report["tests"]] == [8, None]
    assert report["megabytes"] == manifest["compression"]["target_mb"] == int(limits[1]) / 1e6
    assert (out / WEIGHTS).stat().st_size == sizes[1]
    assert manifest["target"]["chosen"] == "mix"


@pytest.mark.slow
def test_what_no_outcome_could_certify_is_refused(classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    least = math.ceil(1e4 * least_drop(19, 0.95)) / 1e4
    with pytest.raises(UserError, match=rf"the 19 examples of tuning, .* --max-drop {least:g} or more"):
        compress.main([str(classifier), "--max-drop", "0.1", "--out", str(out)])
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("zero", "least"), [("symmetric", 2), ("nudged", 1)])
def test_the_fewest_bits_are_those_that_codes_have(
    zero: str, least: int, classifier: Path, tmp_path: Path
) -> None:
    """Every recipe passes, so that all are tested; symmetric codes need 2 bits."""
    out = tmp_path / "out"
    compress.main([str(classifier), "--bits=2", f"--zero={zero}", "--max-drop=0.99", "--out", str(out)])
    report = read_artifact(out).manifest["guarantee"]
    assert [test["bits"] for test in report["tests"]] == list(range(2, least - 1, -1))
    assert (report["bits"], report["before"]) == (least, "weights")


@pytest.mark.slow
def test_mixes_with_calibration_are_refused_before_anything_is_compressed(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guaranteed_drop, "compress_model", lambda *given: pytest.fail("it was compressed"))
    options = ["--config", "compensated", "--mixed-bits", "--max-drop", "0.9", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="--mixed-bits .* QuantizeCompensated .*omit --mixed-bits"):
        compress.main([str(classifier), *options])
