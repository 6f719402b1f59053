"""Exhibits of finetuned models: sizes pretrained to the same loss (paper, table 2), and the search of
finetunings (paper D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.studies import stores
from tlc_jax.studies.exhibits.finetuned_sizes import FINETUNED_SIZES, comparisons
from tlc_jax.studies.exhibits.finetuning_search import FINETUNING_SEARCH, searches
from tlc_jax.studies.item_store import ItemStore, Result, Row

TARGET = 1.25
MADE = {"device": "2 cores of CPU"}

Accuracies = Mapping[str, Sequence[Sequence[float]]]
"""By size, for each pretraining those of its finetunings."""
EQUAL = {
    "1x32": [[0.80, 0.82], [0.81, 0.81], [0.80, 0.83]],
    "2x64": [[0.83, 0.84], [0.84, 0.84], [0.83, 0.86]],
}


def finetuned(
    workdir: Path,
    accuracies: Accuracies,
    *,
    losses: Mapping[str, float] | None = None,
    equal: Mapping[str, Any] | None = None,
) -> ItemStore:
    """A store of pretrainings, and of their chosen finetunings on the tuning and on the reported set, whose
    linear model is right on 0.79."""
    store = ItemStore(workdir)
    equal = {"equal": "loss", "target": TARGET} if equal is None else equal
    for size, seeds in accuracies.items():
        for seed, values in enumerate(seeds):
            fields = {"size": size, "variant": "", "seed": seed, "mark": "", **equal}
            about = {"set": "held_out", "training_seconds": 100.0 * int(size[0]), "step": 9, "last": True}
            loss = (losses or {}).get(size, 1.24)
            rows: list[Row] = [
                {**about, "metric": "nats_per_byte", "value": loss},
                {**about, "metric": "perplexity", "value": 4 * loss},
            ]
            language = {"metric_of_task": "nats_per_byte"}
            _seal(store, f"{size}/seed{seed}/trained", "train", {**fields, **language}, rows)
            for number, value in enumerate(values):
                model = {**fields, "combination": "lr0.1", "finetuning_seed": number, "sparsity": 0.0}
                for bits in (32, 4):
                    name = f"{size}/seed{seed}/lr0.1-seed{number}/{bits}bits-0pruned"
                    wrong = 0.0 if bits == 32 else 0.3
                    rows = [
                        {"set": "tuning", "role": "tuning", "metric": "accuracy", "value": value + 0.01},
                        {"set": "test", "role": "reported", "metric": "accuracy", "value": value - wrong},
                        {"set": "test", "metric": "linear_accuracy", "value": 0.79},
                    ]
                    _seal(store, name, "compress", {**model, "bits": bits, **ACCURACY}, rows)
    return store


ACCURACY = {"metric_of_task": "accuracy", "higher_is_better": True}


def _seal(store: ItemStore, name: str, stage: str, fields: dict[str, Any], rows: list[Row]) -> None:
    store.seal(Result(item=name, stage=stage, fields=fields, rows=rows, made=MADE))


def test_finetunings_of_a_pretraining_count_as_one_and_the_margin_is_tested(tmp_path: Path) -> None:
    rows = FINETUNED_SIZES.rows(finetuned(tmp_path, EQUAL))
    small, large = (np.mean(EQUAL[size], axis=1) for size in ("1x32", "2x64"))
    [each] = comparisons(rows)
    assert each.gain == pytest.approx(large.mean() - small.mean())
    assert each.p == pytest.approx(stats.ttest_ind(large + 0.01, small, equal_var=False)[1])
    [finding] = FINETUNED_SIZES.findings(rows)
    assert finding.supports
    assert finding.claim in FINETUNED_SIZES.claims
    low, high = stats.ttest_ind(large, small, equal_var=False).confidence_interval()
    assert finding.effect.startswith(
        f"2x64 against 1x32, accuracy on test: {each.gain:+.4f} [{low:+.4f}, {high:+.4f}]"
    )
    assert "each pretrained to 1.25 nats_per_byte (200 and 100 s)" in finding.effect
    assert "not harder to finetune, at a margin of 0.01" in FINETUNED_SIZES.sentences(rows)[0]


@pytest.mark.parametrize(("worse", "supports"), [(0.005, True), (0.03, False)])
def test_one_point_less_is_the_bound(tmp_path: Path, worse: float, supports: bool) -> None:
    base = [[0.90], [0.901], [0.899]]
    values = {"1x32": base, "2x64": [[value - worse for value in seed] for seed in base]}
    rows = FINETUNED_SIZES.rows(finetuned(tmp_path, values))
    [finding] = FINETUNED_SIZES.findings(rows)
    assert finding.supports is supports
    assert (finding.p or 0) < 0.05
    said = FINETUNED_SIZES.sentences(rows)[0]
    assert (", not harder to finetune" if supports else ", harder to finetune") in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"equal": {}}, "pretrained to different losses"),
        ({"losses": {"2x64": 1.3}}, "2x64 did not stop at 1.25 nats_per_byte, or at most 1 % beyond it"),
        (
            {"losses": {"1x32": 1.99, "2x64": 1.80}, "equal": {"equal": "loss", "target": 2.0}},
            "Not judged: 2x64 did not stop at 2 nats_per_byte, or at most 1 % beyond it",
        ),
        (
            {"accuracies": {**EQUAL, "1x32": [[0.70], [0.71], [0.72]]}},
            "1x32 is no better than the bag of words",
        ),
    ],
)
def test_what_is_not_judged(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    rows = FINETUNED_SIZES.rows(finetuned(tmp_path, **{"accuracies": EQUAL, **options}))
    assert not FINETUNED_SIZES.findings(rows)
    said = " ".join(FINETUNED_SIZES.sentences(rows))
    assert words in said
    assert "at a margin" not in said


def test_the_table_shows_pretraining_beside_finetuning(tmp_path: Path) -> None:
    table = FINETUNED_SIZES.table(FINETUNED_SIZES.rows(finetuned(tmp_path, EQUAL)))
    columns = {str(column.header): list(map(str, column.cells)) for column in table.columns}
    assert columns["size"] == ["1x32", "2x64"]
    assert columns["pretraining, s"] == ["100", "200"]
    assert columns["perplexity"] == ["4.96", "4.96"]
    assert columns["accuracy, tuning"][0].startswith("0.8217 [")
    assert columns["accuracy, test"][0].startswith("0.8117 ["), "0.80 to 0.83, not those at 4 bits"
    assert "bag of words 0.7900" in str(table.caption)


def test_they_draw(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    upper, lower = Figure().subplots(2)
    FINETUNED_SIZES.draw(upper, FINETUNED_SIZES.rows(finetuned(tmp_path / "sizes", EQUAL)))
    assert [text.get_text() for text in upper.get_xticklabels()] == ["1x32", "2x64"]
    FINETUNING_SEARCH.draw(lower, FINETUNING_SEARCH.rows(searched(tmp_path / "search", GOOD)))
    assert len(lower.containers) == 1


GOOD = {"lr0.1": [0.70, 0.72, 0.71], "lr0.2": [0.80, 0.82, 0.81], "lr0.3": [0.55, 0.50, 0.51]}


def searched(
    workdir: Path, values: Mapping[str, Sequence[float]], levels: Sequence[float] = (0.0,)
) -> ItemStore:
    """A store of finetunings by combination, of a pretraining for each level that is added to all of it."""
    store = ItemStore(workdir)
    for seed, level in enumerate(levels):
        for combination, seeds in values.items():
            for number, value in enumerate(seeds):
                fields = {"size": "2x64", "variant": "", "seed": seed, "mark": "", **ACCURACY}
                about = {"set": "tuning", "step": 5, "last": True}
                rows: list[Row] = [
                    {**about, "metric": "accuracy", "value": value + level},
                    {**about, "metric": "loss", "value": 1 - value},
                    {**about, "metric": "accuracy", "value": 0.1, "last": False},
                ]
                name = f"2x64/seed{seed}/{combination}-seed{number}"
                finetuning = {"combination": combination, "finetuning_seed": number}
                _seal(store, name, "finetune", {**fields, **finetuning}, rows)
    return store


def test_two_combinations_of_three_seeds_resolve_nothing(tmp_path: Path) -> None:
    two = {"lr0.1": [0.70, 0.71, 0.72], "lr0.2": [0.80, 0.81, 0.82]}
    [search] = searches(FINETUNING_SEARCH.rows(searched(tmp_path, two)))
    assert search.p == pytest.approx(2 / 20, abs=0.008), "of 20 ways to deal out six values"


def test_a_choice_that_matters(tmp_path: Path) -> None:
    rows = FINETUNING_SEARCH.rows(searched(tmp_path, GOOD))
    [search] = searches(rows)
    assert search.chosen == ("lr0.2",)
    assert search.means == pytest.approx({name: np.mean(values) for name, values in GOOD.items()})
    within = [np.var(values, ddof=1) for values in GOOD.values()]
    assert search.noise == pytest.approx(np.sqrt(np.mean(within)))
    assert search.p == pytest.approx(6 / 1680, abs=0.0015), (
        "3! of 9! / 3!^3 ways to deal out the seeds are as orderly"
    )
    [said] = FINETUNING_SEARCH.sentences(rows)
    assert (
        "lr0.2 is chosen of 3 combinations; by accuracy on tuning the best has 0.8100, 0.1000 from the median"
        in said
    )
    assert "the choice matters, p = 0.00" in said


def test_the_level_of_a_pretraining_is_no_noise_of_its_finetunings(tmp_path: Path) -> None:
    [one] = searches(FINETUNING_SEARCH.rows(searched(tmp_path / "one", GOOD)))
    [two] = searches(FINETUNING_SEARCH.rows(searched(tmp_path / "two", GOOD, levels=(0.0, 0.1))))
    assert two.means == pytest.approx({name: mean + 0.05 for name, mean in one.means.items()})
    assert two.noise == pytest.approx(one.noise)


def test_what_luck_alone_gives_the_best_of_many(tmp_path: Path) -> None:
    """Against a simulation of combinations that are all alike."""
    rng = np.random.default_rng(0)
    values = {f"lr{number}": rng.normal(0.8, 0.01, 3).tolist() for number in range(27)}
    rows = FINETUNING_SEARCH.rows(searched(tmp_path, values))
    [search] = searches(rows)
    simulated = rng.normal(0, search.noise or 0, (4000, 27, 3)).mean(axis=2)
    expected = np.mean(simulated.max(axis=1) - np.median(simulated, axis=1))
    assert search.luck == pytest.approx(expected, rel=0.03)
    assert "does not stand out from them" in FINETUNING_SEARCH.sentences(rows)[0]


def test_one_seed_says_nothing_about_noise(tmp_path: Path) -> None:
    rows = FINETUNING_SEARCH.rows(searched(tmp_path, {name: values[:1] for name, values in GOOD.items()}))
    [said] = FINETUNING_SEARCH.sentences(rows)
    assert said.endswith("One seed each: how much of it is noise is not known.")


def test_stores_without_finetunings_or_without_a_choice(tmp_path: Path) -> None:
    trained = stores.trained(tmp_path / "trained", {"1x32": {"1": [1.0]}})
    assert FINETUNED_SIZES.rows(trained) == FINETUNING_SEARCH.rows(trained) == []
    assert FINETUNING_SEARCH.rows(searched(tmp_path / "one", {"lr0.1": [0.7, 0.8]})) == []
