"""What is said of compressed models at equal bytes, of stores that are made by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.studies.compressed_stores import Way, compressed_in_ways
from tests.studies.stores import compressed, right
from tlc_jax.studies.claims import Finding
from tlc_jax.studies.compressed_models import compressed_rows
from tlc_jax.studies.exhibits.equal_bytes import EQUAL_BYTES
from tlc_jax.studies.item_store import ItemStore, Result
from tlc_jax.studies.measured import grouped

RNG = np.random.default_rng(1)


def said_of_bytes(store: ItemStore) -> str:
    return " ".join(EQUAL_BYTES.sentences(EQUAL_BYTES.rows(store)))


def test_what_is_chosen_on_the_tuning_set_is_shown_on_the_reported_one(tmp_path: Path) -> None:
    """The reported set would choose the other model of each size, and the other size."""
    flat = [right(200)] * 3
    store = compressed(
        tmp_path,
        "accuracy",
        {
            ("2x64", 8, 30.0): (0.80, [0.61, 0.62, 0.63], flat),
            ("2x64", 4, 15.0): (0.70, [0.99, 0.99, 0.99], flat),
            ("2x128", 4, 31.0): (0.90, [0.51, 0.52, 0.53], flat),
            ("2x128", 3, 25.0): (0.60, [0.98, 0.98, 0.98], flat),
        },
    )
    text = said_of_bytes(store)
    assert "Up to 32 kB: 2x128 at 4 bits, 0.5200 [" in text
    assert "against 2x64 at 8 bits, 0.6200 [" in text
    assert "Up to 16 kB: 2x64 at 4 bits, 0.9900 [0.9900, 0.9900], 15 kB. Up to 32" in text, (
        "nothing to compare it to"
    )
    assert "The model named first is the best on tuning; its accuracy is that on test; bytes are" in text


def test_a_set_that_models_are_chosen_on_is_called_so(tmp_path: Path) -> None:
    models = {("2x64", 8, 30.0): (0.8, [0.6, 0.61], [right(200)] * 2)}
    two, one = compressed(tmp_path / "a", "accuracy", models), ItemStore(tmp_path / "b")
    for result in two.results():
        one.seal({**result, "rows": [{**result["rows"][1], "role": "both"}]})
    assert "is that on test, which its models are chosen on, so the best is a little" in said_of_bytes(one)
    assert "are chosen on" not in said_of_bytes(two)


def pairs(tmp_path: Path, counts: list[list[int]], **options: Any) -> str:
    """What is said of pairs of models, each with their own number of bytes: right answers by training."""
    models: Any = {}
    for number, seeds in enumerate(counts):
        size, bits = ("2x64", "2x128")[number % 2], 8 - number // 2
        scores = [right(count) for count in seeds]
        value = (seeds[0] + number) / 400  # the later one is the better one
        models[size, bits, 9 * 2.0 ** (number // 2)] = (value, [s.mean() for s in scores], scores)
    return said_of_bytes(compressed(tmp_path, "accuracy", models, **options))


def test_resolved_needs_the_examples_and_the_trainings(tmp_path: Path) -> None:
    both = pairs(tmp_path / "a", [[200, 202, 204], [300, 302, 304]])
    assert "over trainings p = " in both
    covered = stats.ttest_ind([0.75, 0.755, 0.76], [0.5, 0.505, 0.51], equal_var=False).confidence_interval()
    assert f"+0.2500 [{covered.low:+.4f}, {covered.high:+.4f}] (over trainings" in both
    assert both.count(", resolved.") == 1
    one = pairs(tmp_path / "b", [[200], [300]])
    assert "a single training, so another may turn it" in one
    assert "resolved" not in one
    control = pairs(tmp_path / "c", [[200, 202, 204], [300]])
    assert "resolved" not in control, "a single training of one of them says nothing about another"
    varying = pairs(tmp_path / "d", [[150, 250, 200], [180, 350, 280]])
    assert "not resolved." in varying
    assert "Tests are corrected for 1 comparison." in varying


def test_finetunings_of_one_training_are_no_trainings(tmp_path: Path) -> None:
    text = pairs(tmp_path, [[200, 202, 204], [300, 302, 304]], finetunings=3)
    assert "a single training" in text
    assert "resolved" not in text
    assert "[" not in text, "finetunings give no interval over trainings"
    rows = [{"seed": seed, "value": value} for seed, value in ((0, 1.0), (0, 3.0), (1, 4.0))]
    [model] = grouped(rows, ())
    assert model.values.tolist() == [2.0, 4.0]


def test_tests_over_budgets_are_corrected(tmp_path: Path) -> None:
    """Each of both comparisons alone would be significant over trainings."""
    counts = [[200, 214, 207], [230, 240, 235], [260, 274, 267], [290, 300, 295]]
    p = [
        stats.ttest_ind([x / 400 for x in one], [x / 400 for x in other], equal_var=False).pvalue
        for one, other in (counts[:2], counts[2:])
    ]
    assert max(p) < 0.05
    text = pairs(tmp_path, counts)
    assert f"over trainings p = {2 * min(p):.2g};" in text
    assert "Tests are corrected for 2 comparisons." in text


def test_compressed_models_above_their_gate_are_not_compared(tmp_path: Path) -> None:
    """But those that no budget chooses may be as bad as they like."""
    text = pairs(tmp_path, [[200, 202, 204], [300, 302, 304]], gate=("linear", 0.7))
    assert "against 2x64 at 8 bits, 0.5050 [0.4926, 0.5174], 9 kB: not comparable yet." in text
    assert "Not comparable yet: 2x64 at 8 bits is no better than the bag of words, 0.7000." in text
    assert "resolved" not in text
    assert "corrected for 0 comparisons" in text


def test_losses_are_compared_per_byte(tmp_path: Path) -> None:
    """Sums over sums: long examples count for more. Lower is better."""
    lengths = RNG.integers(5, 60, 300).astype(float)
    losses = [[lengths * (rate + 0.1 * RNG.standard_normal(300)) for _ in range(3)] for rate in (1.5, 1.4)]
    values = [[float(each.sum() / lengths.sum()) for each in model] for model in losses]
    models = {
        (size, 4, 10.0): (np.mean(values[number]), values[number], losses[number])
        for number, size in enumerate(("2x64", "2x128"))
    }
    text = said_of_bytes(compressed(tmp_path, "nats_per_byte", models, weights=lengths))
    assert "Up to 16 kB: 2x128 at 4 bits" in text
    assert f": {np.mean(values[1]) - np.mean(values[0]):+.4f} [" in text
    assert ", resolved." in text


def test_a_metric_that_is_no_mean_over_examples_says_what_is_tested(tmp_path: Path) -> None:
    models = {
        ("2x64", 8, 9.0): (0.25, [0.25], [right(200)]),
        ("2x128", 8, 9.0): (0.5, [0.5], [right(300)]),
    }
    text = said_of_bytes(compressed(tmp_path, "matthews", models))
    assert (
        "2x128 at 8 bits, 0.5000, 9 kB; against 2x64 at 8 bits, 0.2500, 9 kB: +0.2500 (over examples " in text
    )
    assert "its matthews is that on test" in text
    assert "Differences are those of the accuracy." in text


POINTS = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20)), min_size=1, max_size=8)


@given(POINTS, POINTS)
def test_the_best_of_each_size_that_fits_is_compared(
    tmp_path_factory: pytest.TempPathFactory, small: list[tuple[int, int]], large: list[tuple[int, int]]
) -> None:
    """By brute force, over all budgets that are named."""
    points = {"2x64": small, "2x128": large}
    models = {
        (size, bits + 1, float(kilobytes)): (value / 20, [value / 20], [right(10)])
        for size, choices in points.items()
        for bits, (kilobytes, value) in enumerate(choices)
    }
    rows = EQUAL_BYTES.rows(compressed(tmp_path_factory.mktemp("store"), "accuracy", models))
    named = [text.removeprefix("Up to ") for text in EQUAL_BYTES.sentences(rows) if text.startswith("Up to")]
    for text in named:
        limit = float(text.partition(" kB")[0].replace(",", ""))
        best = {
            size: max((value, -kilobytes) for kilobytes, value in choices if kilobytes <= limit)
            for size, choices in points.items()
            if any(kilobytes <= limit for kilobytes, _ in choices)
        }
        chosen = max(best.values())
        assert f", {chosen[0] / 20:.4f}" in text
        assert ("against" in text) == (len(best) == 2)
    limits = [float(text.partition(" kB")[0].replace(",", "")) for text in named]
    smallest = min(kilobytes for kilobytes, _ in itertools.chain(small, large))
    assert smallest <= limits[0] < 2 * smallest, "the first budget is the first that any model fits in"
    assert limits == sorted(set(limits))


def findings_of_bytes(store: ItemStore) -> list[Finding]:
    return EQUAL_BYTES.findings(EQUAL_BYTES.rows(store))


def test_a_larger_model_that_is_compressed_more_is_compared_at_equal_bytes(tmp_path: Path) -> None:
    """2x64 at 8 bits and 2x128 at 4; where 2x128 has as many bits, nothing is said of compression."""
    flat = [right(200)] * 3
    small, large = [0.51, 0.52, 0.54], [0.61, 0.62, 0.63]
    models: Any = {
        ("2x64", 8, 30.0): (0.80, small, flat),
        ("2x128", 4, 29.0): (0.90, large, flat),
        ("2x64", 32, 110.0): (0.81, [0.55, 0.55, 0.56], flat),
        ("2x128", 32, 120.0): (0.95, [0.65, 0.65, 0.66], flat),
    }
    [finding] = findings_of_bytes(compressed(tmp_path, "accuracy", models))
    assert finding.claim.name == "large-then-compress"
    assert finding.supports
    expected: Any = stats.ttest_ind(large, small, equal_var=False)
    assert finding.p == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval()
    assert (
        f"the first minus the second is {np.mean(large) - np.mean(small):+.4f} [{low:+.4f}, {high:+.4f}]"
        in finding.effect
    )
    assert finding.effect.startswith("2x128 at 4 bits, 0.6200 [")
    assert "], 29 kB, and 2x64 at 8 bits, 0.5233 [" in finding.effect
    assert "], 30 kB: the first" in finding.effect
    assert findings_of_bytes(compressed(tmp_path / "gate", "accuracy", models, gate=("linear", 0.6))) == []


@pytest.mark.parametrize(
    "other",
    [
        {"equal": "updates"},
        {"recovered": True},
        {"as_long_as": 0.5},
        {"variant": "budget.training_seconds=900"},
        {"variant": "data_share=0.05"},
        {"device": "1 x GPU"},
    ],
)
def test_only_models_that_were_trained_as_long_are_judged(tmp_path: Path, other: dict[str, Any]) -> None:
    """The larger model, better in fewer bytes, has had another training than the smaller one."""
    scores = [right(200)] * 3
    models: Any = {
        ("2x64", 8, 30.0): (0.80, [0.51, 0.52, 0.54], scores),
        ("2x64", 32, 110.0): (0.80, [0.51, 0.52, 0.54], scores),
        ("2x128", 4, 29.0): (0.90, [0.61, 0.62, 0.63], scores),
    }
    first, store = compressed(tmp_path / "a", "accuracy", models), ItemStore(tmp_path / "b")
    assert len(findings_of_bytes(first)) == 1
    for result in first.results():
        fields, about = result["fields"], {name: other[name] for name in other if name != "device"}
        larger = fields["size"] == "2x128"
        device = other.get("device", "CPU") if larger else "CPU"
        store.seal({**result, "fields": {**fields, **(about if larger else {})}})
        training: dict[str, Any] = {name: fields[name] for name in ("size", "variant", "seed", "mark")}
        training |= {"metric_of_task": "accuracy"}
        item = f"{fields['size']}/seed{fields['seed']}"
        row = {"set": "held_out", "metric": "accuracy", "value": 0.5, "last": True, "training_seconds": 9}
        made: Any = {"device": device}
        store.seal(Result(item=item, stage="train", fields=training, rows=[row], made=made))
    assert findings_of_bytes(store) == []
    if not {"recovered", "as_long_as"} & set(other):  # these are losses by compression
        assert len({row["size"] for row in compressed_rows(store)}) == 1, "that of the same training"


def of_losses(tmp_path: Path, models: dict[tuple[str, int, float], float]) -> list[Finding]:
    """What is found of models with these nats per byte, of three seeds each."""
    made: Any = {}
    for model, value in models.items():
        made[model] = (value, [value - 0.002, value, value + 0.001], [right(200)] * 3)
    return findings_of_bytes(compressed(tmp_path, "nats_per_byte", made))


def test_a_larger_model_with_more_bytes_shows_nothing_by_being_better(tmp_path: Path) -> None:
    """Nor does a smaller one. Numbers of a study; a power of two of bytes has room for 342 kB and for 2.5
    times as many."""
    larger, smaller = ("2x128", 6, 845.0), ("2x64", 8, 342.0)
    assert of_losses(tmp_path / "a", {larger: 0.981, smaller: 1.029}) == []
    assert of_losses(tmp_path / "b", {("2x64", 4, 189.0): 1.1, ("1x32", 8, 84.0): 1.4}) == []
    assert of_losses(tmp_path / "c", {("2x128", 2, 318.0): 1.029, ("2x64", 8, 342.0): 0.981}) == []
    fewer = ("2x128", 2, 318.0)
    [holds] = of_losses(tmp_path / "d", {larger: 0.981, smaller: 1.029, fewer: 0.99})
    assert holds.supports
    assert holds.effect.startswith("2x128 at 2 bits, 0.9897 [")


def test_a_smaller_model_that_is_better_with_no_more_bytes_contradicts(tmp_path: Path) -> None:
    models = {("2x128", 2, 345.0): 1.326, ("2x128", 6, 845.0): 0.981, ("2x64", 8, 342.0): 1.029}
    [fails] = of_losses(tmp_path, models)
    assert not fails.supports
    assert "345 kB, and 2x64 at 8 bits, 1.0287 [" in fails.effect


def test_a_smaller_model_is_held_against_the_best_larger_one_that_it_beats(tmp_path: Path) -> None:
    """Numbers of a study. 2x128 at 3 bits has more bytes and loses; one of fewer bytes loses by far, and the
    one at 32 bits and 30 % pruned is no choice for its bytes, since 8 bits are better in fewer."""
    models: dict[tuple[str, int, float], float] = {
        ("2x64", 8, 413.0): 0.572,
        ("2x128", 2, 420.0): 1.077,
        ("2x128", 3, 504.0): 0.649,
        ("2x128", 6, 1250.0): 0.497,
    }
    [fails] = of_losses(tmp_path, models)
    assert not fails.supports
    assert fails.effect.startswith("2x128 at 3 bits, 0.6487 [")
    assert "(uncompressed" not in fails.effect, "no size is there uncompressed"


@given(POINTS, POINTS)
def test_the_better_of_two_that_are_judged_is_never_the_larger_file(
    tmp_path_factory: pytest.TempPathFactory, small: list[tuple[int, int]], large: list[tuple[int, int]]
) -> None:
    """By brute force over all pairs: some is judged for each small model that a large one beats in no more
    bytes."""
    models = {
        (size, bits + first, float(kilobytes)): (value / 20, [value / 20], [right(10)])
        for size, choices, first in (("2x64", small, 20), ("2x128", large, 1))
        for bits, (kilobytes, value) in enumerate(choices)
    }
    found = findings_of_bytes(compressed(tmp_path_factory.mktemp("store"), "accuracy", models))
    beaten = any(b[0] <= a[0] and b[1] > a[1] for a in small for b in large)
    beating = any(a[0] <= b[0] and a[1] >= b[1] for a in small for b in large)
    frontier = [a for a in small if not any(b[0] <= a[0] and b[1] >= a[1] and b != a for b in small)]
    if any(b[0] <= a[0] and b[1] > a[1] for a in frontier for b in large):
        assert any(each.supports for each in found)
    assert beaten or not any(each.supports for each in found) or _nearly(small, large)
    assert beating or all(each.supports for each in found) or _nearly(small, large)


def _nearly(small: list[tuple[int, int]], large: list[tuple[int, int]]) -> bool:
    """Whether two differ by less than what counts as as many bytes."""
    return any(0 < abs(a[0] - b[0]) <= 0.01 * max(a[0], b[0]) for a in small for b in large)


def test_models_that_were_pruned_in_rounds_are_others(tmp_path: Path) -> None:
    """And so are the dense ones that were trained as long; of several marks the last counts."""
    half = Way("1x32", 8, 0.5)
    values = {
        half: [1.9],
        replace(half, recovered=True): [1.6],
        Way("1x32", 8, as_long_as=0.5): [1.4],
        Way("1x32", 8, mark="1/4"): [1.2],
    }
    rows = EQUAL_BYTES.rows(
        compressed_in_ways(tmp_path, {replace(w, mark=w.mark or "1"): v for w, v in values.items()})
    )
    text = " ".join(EQUAL_BYTES.sentences(rows))
    assert "1x32 at 8 bits, 50 % pruned in rounds, 1.6000" in text
    assert "1x32 at 8 bits, dense, trained as long as 50 % pruned in rounds, 1.4000" in text
    amounts = [str(cell) for cell in EQUAL_BYTES.table(rows).columns[1].cells]
    assert sorted(amounts) == sorted(
        ["50 % pruned", "50 % pruned in rounds", "dense, trained as long as 50 % pruned in rounds"]
    )
    assert "1.2000" not in text
