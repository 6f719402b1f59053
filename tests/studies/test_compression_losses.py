"""What is said of the losses by quantization, by pruning and by both, of stores that are made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.studies.compressed_stores import Way, compressed_in_ways, drawn, findings
from tests.studies.stores import trained
from tlc_jax.studies.compressed_models import losses
from tlc_jax.studies.exhibits.combined_losses import COMBINED_LOSSES
from tlc_jax.studies.exhibits.compression_losses import COMPRESSION_LOSSES
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.exhibits.losses_after_updates import LOSSES_AFTER_UPDATES
from tlc_jax.studies.exhibits.moderate_amounts import MODERATE_AMOUNTS
from tlc_jax.studies.exhibits.over_training import OVER_TRAINING
from tlc_jax.studies.item_store import ItemStore

SMALL, LARGE = "1x32", "2x64"
DENSE = {Way(SMALL): [1.60, 1.62, 1.64], Way(LARGE): [1.40, 1.43, 1.41]}


def one_sample_p(values: np.ndarray, alternative: str = "two-sided") -> float:
    result: Any = stats.ttest_1samp(values, 0, alternative=alternative)
    return result.pvalue


def test_losses_are_compared_over_trainings(tmp_path: Path) -> None:
    """Each training with itself: the spread between trainings of a size is no part of its loss."""
    store = compressed_in_ways(
        tmp_path,
        {
            **DENSE,
            Way(SMALL, 4): [1.70, 1.73, 1.74],
            Way(LARGE, 4): [1.43, 1.45, 1.44],
            Way(SMALL, 32, 0.5): [1.62, 1.66, 1.67],
            Way(LARGE, 32, 0.5): [1.45, 1.49, 1.46],
        },
    )
    quantized, pruned = findings(COMPRESSION_LOSSES, store)
    small, large = [0.10, 0.11, 0.10], [0.03, 0.02, 0.03]
    expected: Any = stats.ttest_ind(small, large, equal_var=False)
    assert quantized.claim.name == "larger-quantizes-better"
    assert quantized.supports
    assert quantized.p == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval()
    assert (
        f"1x32 minus 2x64: {np.mean(small) - np.mean(large):+.4f} [{low:+.4f}, {high:+.4f}]"
        in quantized.effect
    )
    assert "4 bits, after as long a training: 2x64 loses +0.0267 [" in quantized.effect
    assert pruned.claim.name == "larger-prunes-better"
    assert not pruned.supports, "0.02, 0.04, 0.03 against 0.05, 0.06, 0.05"
    assert drawn(COMPRESSION_LOSSES, store) == 2


def test_a_loss_of_accuracy_is_a_fall(tmp_path: Path) -> None:
    values = {Way(SMALL): [0.80], Way(SMALL, 4): [0.70], Way(LARGE): [0.90], Way(LARGE, 4): [0.88]}
    [finding] = findings(COMPRESSION_LOSSES, compressed_in_ways(tmp_path, values, metric="accuracy"))
    assert finding.supports
    assert finding.p is None, "one training each"
    assert "2x64 loses +0.0200 accuracy and 1x32 +0.1000" in finding.effect


def test_recovery_is_measured_against_the_dense_model_that_was_trained_as_long(tmp_path: Path) -> None:
    """In the store the dense models gain 0.1 by longer training, which pruned ones do, too."""
    values = dict(DENSE)
    for size in (SMALL, LARGE):
        dense = np.array(DENSE[Way(size)])
        values[Way(size, 32, 0.6)] = [*(dense + 0.3)]
        values[Way(size, 32, 0.6, recovered=True)] = [*(dense - 0.08)]
        values[Way(size, 32, as_long_as=0.6)] = [*(dense - 0.1)]
    bleu = {way: 30.0 - 20 * way.sparsity for way in values}
    store = compressed_in_ways(tmp_path, values, bleu=bleu)
    rows = COMPRESSION_LOSSES.rows(store)
    found = {(loss.size, loss.recovered): loss for loss in losses(rows)}
    assert len(found) == 4, "a control is no compressed model"
    for size in (SMALL, LARGE):
        assert found[size, False].mean == pytest.approx(0.3)
        assert found[size, True].mean == pytest.approx(0.02)
        assert found[size, True].controlled
    assert "1x32, 60 % pruned: at once 1.9200, in rounds 1.5400, dense, trained as long, 1.5200." in (
        COMPRESSION_LOSSES.sentences(rows)
    )
    cells = [cell for column in COMPRESSION_LOSSES.table(rows).columns for cell in column.cells]
    seeds = len(DENSE[Way(SMALL)])
    assert f"{18 + (seeds - 1) / 2:.1f} (-12.0 [-12.0, -12.0])" in cells
    assert drawn(COMPRESSION_LOSSES, store) == 1, "nothing was quantized"


def three_sizes() -> dict[Way, list[float]]:
    """4 bits cost 0.4, 0.2 and 1.4 with more weights, by which 2x128 gets no better than a gate of 2.5."""
    values = {}
    for size, value, loss in [(SMALL, 1.6, 0.4), (LARGE, 1.4, 0.2), ("2x128", 1.3, 1.4)]:
        dense = value + np.array([0.0, 0.01, 0.02])
        values[Way(size)] = [*dense]
        values[Way(size, 4)] = [*(dense + loss + np.array([0.0, 0.001, -0.001]))]
    return values


def test_a_size_that_compression_destroys_stays_the_largest(tmp_path: Path) -> None:
    """With 2x64 in its place the claim would hold with p = 2e-9."""
    store = compressed_in_ways(tmp_path, three_sizes(), gate=2.5)
    [finding] = findings(COMPRESSION_LOSSES, store)
    assert not finding.supports
    assert finding.effect.startswith("4 bits, after as long a training: 2x128 loses +1.4000 [")
    assert "] (no better than the gate) nats per byte and 1x32 +0.4000" in finding.effect
    rows = COMPRESSION_LOSSES.rows(store)
    assert "no better than the gate" in str(COMPRESSION_LOSSES.table(rows).caption)


def test_the_largest_size_that_was_not_compressed_has_no_substitute(tmp_path: Path) -> None:
    values = {way: each for way, each in three_sizes().items() if way != Way("2x128", 4)}
    assert findings(COMPRESSION_LOSSES, compressed_in_ways(tmp_path, values)) == []


def test_sizes_whose_dense_models_learnt_nothing_are_not_compared(tmp_path: Path) -> None:
    [finding] = findings(COMPRESSION_LOSSES, compressed_in_ways(tmp_path, three_sizes(), gate=1.5))
    assert "2x64 minus 2x128" in finding.effect
    assert findings(COMPRESSION_LOSSES, compressed_in_ways(tmp_path / "a", three_sizes(), gate=1.35)) == []


@pytest.mark.parametrize("controlled", [(), (SMALL,), (LARGE,), (SMALL, LARGE)])
def test_what_pruning_in_rounds_costs_is_judged_only_with_controls(
    tmp_path: Path, controlled: tuple[str, ...]
) -> None:
    """In the rounds 1x32 gains 0.1 and 2x64 gains 0.3, as their dense models do when trained as long."""
    values = dict(DENSE)
    for size, gain in ((SMALL, 0.1), (LARGE, 0.3)):
        longer = np.array(DENSE[Way(size)]) - gain + np.array([0.0, 0.002, 0.004])
        values[Way(size, 32, 0.6, recovered=True)] = [*(longer + np.array([0.01, 0.012, 0.008]))]
        if size in controlled:
            values[Way(size, 32, as_long_as=0.6)] = [*longer]
    store = compressed_in_ways(tmp_path, values)
    found = findings(COMPRESSION_LOSSES, store)
    said = any(
        "recovery.control" in text for text in COMPRESSION_LOSSES.sentences(COMPRESSION_LOSSES.rows(store))
    )
    assert len(found) == (len(controlled) == 2)
    assert said == (not found)


def test_the_size_with_one_training_is_shown_and_not_judged(tmp_path: Path) -> None:
    values = {**DENSE, Way(SMALL, 4): [1.7, 1.73, 1.74], Way(LARGE, 4): [1.43, 1.45, 1.44]}
    values |= {Way("4x256"): [1.5], Way("4x256", 4): [1.9]}
    [finding] = findings(COMPRESSION_LOSSES, compressed_in_ways(tmp_path, values))
    assert "2x64 loses" in finding.effect
    assert "4x256" not in finding.effect


def test_moderate_amounts_against_one_of_both_in_as_many_bytes(tmp_path: Path) -> None:
    """83 % pruned has nearly as many bytes as 30 % and 8 bits by the paper's count; 6 bits by that of the
    file, if the file of the sparse model is that much larger. 30 % and 6 bits meet 4 bits by both counts."""
    ways = {
        Way(SMALL): (1.5, [1.50, 1.51]),
        Way(SMALL, 8): (1.5, [1.50, 1.51]),
        Way(SMALL, 6): (1.52, [1.53, 1.54]),
        Way(SMALL, 4): (1.7, [1.70, 1.72]),
        Way(SMALL, 32, 0.83): (1.6, [1.60, 1.62]),
        Way(SMALL, 8, 0.3): (1.55, [1.55, 1.56]),
        Way(SMALL, 6, 0.3): (1.56, [1.40, 1.41]),
        Way(SMALL, 4, 0.3): (1.0, [1.00, 1.01]),
    }
    store = compressed_in_ways(
        tmp_path,
        {way: values for way, (_, values) in ways.items()},
        tuning={way: value for way, (value, _) in ways.items()},
        file_bytes={Way(SMALL, 8, 0.3): 800.0},
    )
    by_file, by_paper, with_6_bits = findings(MODERATE_AMOUNTS, store)
    assert "1x32, 30 % pruned and 8 bits: 1.5550" in by_file.effect
    assert "nats per byte, 0.8 kB (bytes of the file); 6 bits: 1.5350" in by_file.effect
    assert ", 0.77 kB (bytes of the file); the first minus" in by_file.effect
    assert not by_file.supports
    assert "83 % pruned and 32 bits: 1.6100" in by_paper.effect
    assert ", 0.68 kB (non-zeros x bits / 8); the first minus" in by_paper.effect
    assert by_paper.supports
    differences = np.array([1.55 - 1.60, 1.56 - 1.62])
    assert by_paper.p == pytest.approx(one_sample_p(differences), rel=1e-6)
    assert "30 % pruned and 6 bits: 1.4050" in with_6_bits.effect
    assert "4 bits: 1.7100" in with_6_bits.effect
    assert "0.52 kB (bytes of the file), 0.5 kB (non-zeros x bits / 8); the first" in with_6_bits.effect
    assert drawn(MODERATE_AMOUNTS, store) == 1


def test_moderate_amounts_are_judged_over_the_trainings_of_both(tmp_path: Path) -> None:
    """The third seed of one of them has failed: it would turn the mean. Both ways of counting choose the same
    pair, which counts once."""
    values = {Way(SMALL, 8, 0.3): [1.0, 1.0, 1.30], Way(SMALL, 32, 0.83): [1.05, 1.0501]}
    store = compressed_in_ways(tmp_path / "a", {Way(SMALL): [0.9], **values})
    [finding] = findings(MODERATE_AMOUNTS, store)
    assert finding.supports
    assert "the first minus the second: -0.0501 [" in finding.effect
    assert "0.72 kB (bytes of the file), 0.7 kB (non-zeros x bits / 8); 83 % pruned" in finding.effect
    apart = {Way(SMALL, 32, 0.83): [1.05], Way(SMALL, 8, 0.3): [1.0]}
    other = ItemStore(tmp_path / "c")
    for result in compressed_in_ways(tmp_path / "b", apart).results():
        seed = result["fields"]["bits"]
        other.seal({**result, "fields": {**result["fields"], "seed": seed}})
    assert findings(MODERATE_AMOUNTS, other) == [], "no training has both"


@pytest.mark.parametrize("better", [True, False])
def test_bytes_decide_which_models_are_compared_and_not_who_is_better(tmp_path: Path, better: bool) -> None:
    """8 bits and 30 % pruned, 5.6 bits for each weight, and 4 bits have too different numbers of bytes."""
    both, alone = ([1.0, 1.01], [1.1, 1.12])[:: 1 if better else -1]
    store = compressed_in_ways(tmp_path, {Way(SMALL, 8, 0.3): both, Way(SMALL, 4): alone})
    assert findings(MODERATE_AMOUNTS, store) == []
    [why] = MODERATE_AMOUNTS.sentences(MODERATE_AMOUNTS.rows(store))
    assert why.endswith("nearly as many bytes: 1x32, 30 % pruned and 8 bits.")


def test_where_models_are_pruned_in_rounds_these_are_judged(tmp_path: Path) -> None:
    values = {
        Way(SMALL, 8, 0.3): [1.3, 1.31],
        Way(SMALL, 8, 0.3, recovered=True): [1.0, 1.01],
        Way(SMALL, 5): [1.1, 1.12],
    }
    sizes = {Way(SMALL, 5): 690.0}
    [finding] = findings(MODERATE_AMOUNTS, compressed_in_ways(tmp_path, values, file_bytes=sizes))
    assert finding.supports
    assert finding.effect.startswith("1x32, 30 % pruned in rounds and 8 bits: 1.0050")


def marks(tmp_path: Path, late: list[float], gain: float = 0.5) -> ItemStore:
    """4 bits cost 0.03 at 1/4 of the budget, and `late` at its end."""
    early = np.array([2.0, 2.02, 2.01])
    dense = early - gain * np.array([1.0, 1.1, 0.9])
    values = {
        Way(SMALL, mark="1/4"): [*early],
        Way(SMALL, 4, mark="1/4"): [*(early + 0.03)],
        Way(SMALL, mark="1"): [*dense],
        Way(SMALL, 4, mark="1"): [*(dense + np.array(late))],
    }
    return compressed_in_ways(tmp_path, values)


def test_a_change_within_a_tenth_of_the_gain_is_none(tmp_path: Path) -> None:
    late = [0.035, 0.032, 0.033]
    grows, finding = findings(OVER_TRAINING, marks(tmp_path, late))
    change, margin = np.array(late) - 0.03, 0.05 * np.array([1.0, 1.1, 0.9])
    sides = [one_sample_p(margin + sign * change, "greater") for sign in (1, -1)]
    assert finding.supports
    assert finding.p == pytest.approx(max(sides), rel=1e-6)
    assert finding.p is not None
    assert finding.p < 0.05
    assert "the margin is 0.0500" in finding.effect
    assert (grows.claim.name, grows.supports) == ("training-longer-loses-no-more", False)
    assert grows.p == pytest.approx(one_sample_p(change), rel=1e-6), "small, and yet seen"
    assert drawn(OVER_TRAINING, marks(tmp_path / "again", late)) == 1


def test_a_change_beyond_it_contradicts(tmp_path: Path) -> None:
    late = [0.18, 0.20, 0.19]
    _, finding = findings(OVER_TRAINING, marks(tmp_path, late))
    beyond = np.array(late) - 0.03 - 0.05 * np.array([1.0, 1.1, 0.9])
    assert not finding.supports
    expected = 2 * one_sample_p(beyond, "greater")
    assert finding.p == pytest.approx(expected, rel=1e-6), "it could be beyond on either side"


def test_no_difference_that_is_seen_is_not_yet_none(tmp_path: Path) -> None:
    """The mean change is nearly 0 and far from significant, but the trainings say too little."""
    none, finding = findings(OVER_TRAINING, marks(tmp_path, [-0.07, 0.12, 0.03]))
    assert none.supports
    assert finding.supports
    assert finding.p is not None
    assert finding.p > 0.05


def test_a_size_that_gained_nothing_is_not_judged(tmp_path: Path) -> None:
    store = marks(tmp_path, [0.03, 0.03, 0.03], gain=-0.1)
    assert findings(OVER_TRAINING, store) == []
    [why] = OVER_TRAINING.sentences(OVER_TRAINING.rows(store))
    assert why.startswith("1x32 gained -0.1000 [")
    assert "from 1/4 of the budget to 1 of the budget" in why


def test_a_gain_that_seeds_do_not_show_is_no_margin(tmp_path: Path) -> None:
    """The mean gain of 0.0005 would make a change of 0.003 fail, with p = 8e-4."""
    early, gains = np.array([2.0, 2.02, 2.01]), np.array([0.002, -0.001, 0.0005])
    values = {
        Way(SMALL, mark="1/4"): [*early],
        Way(SMALL, 4, mark="1/4"): [*(early + 0.03)],
        Way(SMALL, mark="1"): [*(early - gains)],
        Way(SMALL, 4, mark="1"): [*(early - gains + [0.033, 0.0331, 0.0329])],
    }
    store = compressed_in_ways(tmp_path, values)
    assert findings(OVER_TRAINING, store) == []
    [why] = OVER_TRAINING.sentences(OVER_TRAINING.rows(store))
    assert "no gain to judge" in why


def at_three_marks(tmp_path: Path, dense: list[float], cost: list[float], without: str = "") -> ItemStore:
    """A size whose gate is 3.0 at 1/4, 1/2 and all of the budget, and what 4 bits cost there."""
    values = {}
    for mark, value, loss in zip(["1/4", "1/2", "1"], dense, cost, strict=True):
        of_seeds = value + np.array([0.0, 0.01, 0.02])
        values[Way(SMALL, mark=mark)] = [*of_seeds]
        if mark != without:
            values[Way(SMALL, 4, mark=mark)] = [*(of_seeds * (1 - 1e-3) + loss)]
    return compressed_in_ways(tmp_path, values, gate=3.0)


def test_a_mark_at_which_compression_destroys_the_model_is_judged(tmp_path: Path) -> None:
    """Without that mark, the cost of 0.1 at both others would be no change at all."""
    store = at_three_marks(tmp_path, [2.6, 2.4, 2.2], [0.1, 0.1, 1.2])
    _, finding = findings(OVER_TRAINING, store)
    assert not finding.supports
    assert "at 1 of the budget (no better than the gate), a change of +1.1004" in finding.effect
    assert "no better than the gate" in str(OVER_TRAINING.table(OVER_TRAINING.rows(store)).caption)


def test_marks_are_judged_from_the_first_dense_model_that_learnt_to_the_last(tmp_path: Path) -> None:
    _, finding = findings(OVER_TRAINING, at_three_marks(tmp_path / "a", [3.1, 2.4, 2.2], [0.1, 0.1, 0.1]))
    assert "at 1/2 of the budget and" in finding.effect
    assert findings(OVER_TRAINING, at_three_marks(tmp_path / "b", [2.6, 2.4, 3.1], [0.1] * 3)) == []
    assert findings(OVER_TRAINING, at_three_marks(tmp_path / "c", [2.6, 2.4, 2.2], [0.1] * 3, "1")) == []


def test_losses_after_about_as_many_updates(tmp_path: Path) -> None:
    """At equal time the larger one loses less, after 1,000 and 900 updates more; 4,000 are too many."""
    values = {
        Way(SMALL, mark="1/4"): [1.9, 1.92, 1.91],
        Way(SMALL, 4, mark="1/4"): [1.92, 1.95, 1.93],
        Way(SMALL, mark="1"): [1.6, 1.62, 1.61],
        Way(SMALL, 4, mark="1"): [1.8, 1.83, 1.82],
        Way(LARGE, mark="1"): [1.4, 1.43, 1.41],
        Way(LARGE, 4, mark="1"): [1.5, 1.54, 1.51],
    }
    updates = {(SMALL, "1/4"): 1000, (SMALL, "1"): 4000, (LARGE, "1"): 900}
    store = compressed_in_ways(tmp_path / "a", values, updates=updates)
    [finding] = findings(LOSSES_AFTER_UPDATES, store)
    small, large = [0.02, 0.03, 0.02], [0.10, 0.11, 0.10]
    expected: Any = stats.ttest_ind(small, large, equal_var=False)
    assert not finding.supports
    assert finding.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert "2x64 loses +0.1033 [" in finding.effect
    assert "after 900 updates, and 1x32 +0.0233 [" in finding.effect
    assert "after 1,000 updates; 1x32 minus 2x64: -0.0800 [" in finding.effect
    assert drawn(LOSSES_AFTER_UPDATES, store) == 1
    far = {**updates, (SMALL, "1/4"): 2000}
    assert LOSSES_AFTER_UPDATES.rows(compressed_in_ways(tmp_path / "b", values, updates=far)) == []
    between = {Way("2x48", mark="1"): [1.5, 1.53, 1.51], Way("2x48", 4, mark="1"): [1.6, 1.64, 1.61]}
    long = {**updates, ("2x48", "1"): 20_000}
    [ends] = findings(
        LOSSES_AFTER_UPDATES, compressed_in_ways(tmp_path / "c", values | between, updates=long)
    )
    assert ends.effect == finding.effect, "the smallest and the largest, though not the one between"


def test_controls_that_further_training_did_not_help_are_counted(tmp_path: Path) -> None:
    values = {
        **DENSE,
        Way(SMALL, as_long_as=0.5): [1.59, 1.61, 1.63],
        Way(LARGE, as_long_as=0.5): [1.40, 1.43, 1.41],
        Way(SMALL, 32, 0.5, recovered=True): [1.7, 1.73, 1.74],
        Way(LARGE, 32, 0.5, recovered=True): [1.43, 1.45, 1.44],
    }
    store = compressed_in_ways(tmp_path, values, updates={(SMALL, ""): 40, (LARGE, ""): 0})
    said = " ".join(COMPRESSION_LOSSES.sentences(COMPRESSION_LOSSES.rows(store)))
    assert "3 of 6 of these controls were best before their first further update" in said


@pytest.mark.parametrize(
    "exhibit",
    [COMPRESSION_LOSSES, LOSSES_AFTER_UPDATES, COMBINED_LOSSES, MODERATE_AMOUNTS, OVER_TRAINING],
)
def test_stores_of_something_else_have_no_rows(tmp_path: Path, exhibit: Exhibit) -> None:
    assert exhibit.rows(trained(tmp_path / "a", {"2x64": {"1": [1.5]}})) == []
    assert exhibit.rows(compressed_in_ways(tmp_path / "b", {Way(SMALL, 4): [1.5], Way(LARGE): [1.4]})) == []
