"""N:M sparsity against brute force, by its properties, and as its config document makes artifacts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax import compress as compress_command
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.compression.methods import ByRule, PruneMagnitude, PruneNOfM, Quantize
from tlc_jax.compression.pipeline import compress, make_plan
from tlc_jax.compression.steps import Needs
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.sizes import bitmap_bytes


def drawn(*shape: int) -> np.ndarray:
    """With ties, zeros and negative zeros."""
    return (2 * np.random.default_rng(0).normal(size=shape)).round().astype(np.float32)


def by_brute_force(group: np.ndarray, n: int, gone: np.ndarray) -> np.ndarray:
    """The n positions with the largest sum of magnitudes; of equals those that come last. None is gone."""
    free = np.flatnonzero(~gone)
    sums = {
        kept: float(np.abs(group[list(kept)]).sum())
        for kept in itertools.combinations(free.tolist(), min(n, free.size))
    }
    best = max(sums, key=lambda kept: (sums[kept], kept))
    mask = np.zeros(group.size, bool)
    mask[list(best)] = True
    return mask


def masks_of(step: PruneNOfM, tensors: dict[str, np.ndarray], before: dict[str, np.ndarray] | None = None):
    return {name: np.asarray(mask) for name, mask in make_plan(tensors, (step,), masks=before).masks.items()}


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8), (2, 3)])
@pytest.mark.parametrize("pruned_before", [False, True])
def test_the_largest_of_each_group_stay(n: int, m: int, pruned_before: bool) -> None:
    """Along the last axis of a matrix, and along the first of a kernel [in, out]."""
    x = drawn(10, 24)
    gone = (np.random.default_rng(1).random(x.shape) < 0.3) & pruned_before
    before = {"a.weight": ~gone, "a/kernel": ~gone.T} if pruned_before else None
    masks = masks_of(PruneNOfM(n, m), {"a.weight": x, "a/kernel": x.T.copy()}, before)
    expected = [by_brute_force(*group) for group in zip(*_groups(x, n, m, gone), strict=True)]
    np.testing.assert_array_equal(masks["a.weight"], np.reshape(expected, x.shape))
    np.testing.assert_array_equal(masks["a/kernel"], masks["a.weight"].T)


def _groups(x: np.ndarray, n: int, m: int, gone: np.ndarray):
    groups = x.reshape(-1, m)
    return groups, itertools.repeat(n, len(groups)), gone.reshape(-1, m)


@given(st.data(), st.integers(1, 7), st.integers(1, 5), st.integers(1, 5))
def test_each_group_keeps_exactly_n(data: st.DataObject, n: int, rows: int, groups: int) -> None:
    m = data.draw(st.integers(n + 1, 8))
    values = st.floats(-4, 4, width=16)
    x = np.array(data.draw(st.lists(values, min_size=rows * groups * m, max_size=rows * groups * m)), "f4")
    x = x.reshape(rows, groups * m)
    mask = masks_of(PruneNOfM(n, m), {"x": x})["x"].reshape(-1, m)
    assert (mask.sum(axis=1) == n).all()
    magnitudes = np.abs(x.reshape(-1, m))
    smallest_kept = np.where(mask, magnitudes, np.inf).min(axis=1)
    largest_pruned = np.where(mask, -np.inf, magnitudes).max(axis=1)
    assert (smallest_kept >= largest_pruned).all()


def test_more_groups_than_are_sorted_at_once() -> None:
    x = np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32)
    mask = masks_of(PruneNOfM(), {"x": x})["x"].reshape(-1, 4)
    limit = np.sort(np.abs(x.reshape(-1, 4)), axis=1)[:, 2:3]
    np.testing.assert_array_equal(mask, np.abs(x.reshape(-1, 4)) >= limit)


def test_what_rules_do_not_leave_to_it_stays() -> None:
    tensors = {name: drawn(8, 8) for name in ("plain", "own", "whole")} | {"vector": drawn(8)}
    rules = (Rule("plain", prune=True), Rule("own", prune=True, sparsity=0.25), Rule(".*"))
    masks = compress(tensors, (ByRule(rules), PruneNOfM())).masks
    assert {name: int((~np.asarray(mask)).sum()) for name, mask in masks.items()} == {"plain": 32, "own": 16}
    other = compress({"x": drawn(8, 8)}, (PruneMagnitude(0.3), PruneNOfM())).masks["x"].reshape(-1, 4)
    assert (other.sum(axis=1) <= 2).all()


def test_rules_of_a_later_step_leave_what_does_not_divide_alone() -> None:
    tensors = {"even": drawn(8, 8), "odd": drawn(8, 6)}
    rules = (Rule("even|odd", QuantSpec(4), prune=True),)
    plan = make_plan(tensors, (PruneNOfM(), ByRule(rules), PruneNOfM()))
    assert list(plan.masks) == ["even"]
    assert plan.undone == {"not pruned 2:4, since 4 does not divide the rows": ["odd"]}


def test_a_pruned_matrix_has_a_bit_a_weight_and_the_kept_codes() -> None:
    sizes = compress({"x": drawn(16, 64)}, (PruneNOfM(), Quantize(QuantSpec(8)))).sizes()
    assert sizes.nonzeros == sizes.paper_bytes == 512
    assert bitmap_bytes(1024, 512, 8) == 5 / 8 * 1024
    assert sizes.format_bytes == bitmap_bytes(1024, 512, 8) + 4 + 2, "a range besides"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 4), "n must be positive, not 0"),
        ((4, 4), "m must be larger than n, which is 4, not 4"),
        ((2, 4.0), "m must be int, not 4.0"),
        ((True, 4), "n must be int, not True"),
    ],
)
def test_options_that_mean_nothing(options: tuple, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        PruneNOfM(*options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(UserError, match="x has values that are not finite"):
        make_plan({"x": np.full((2, 4), value, np.float32)}, (PruneNOfM(),))


def test_recovery_is_one_round() -> None:
    step = PruneNOfM(1, 4, RecoveryConfig())
    assert (step.needs, step.sparsity, step.rounds()) == (Needs.TRAINING, 0.75, (PruneNOfM(1, 4),))
    assert step.rounds()[0].needs is Needs.NOTHING


def test_the_config_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What four does not divide is left alone, with the reason in the manifest and on the terminal."""
    arrays = {"dense.weight": drawn(12, 16), "odd.weight": drawn(16, 6), "dense.bias": drawn(16)}
    (tmp_path / "hf").mkdir()
    safetensors.numpy.save_file(arrays, tmp_path / "hf" / "model.safetensors")
    options = ["--hf", str(tmp_path / "hf"), "--config", "prune_2_4"]
    compress_command.main([*options, "--out", str(tmp_path / "out")])
    assert "not pruned 2:4, since 4 does not divide the rows: odd.weight\n" in capsys.readouterr().out
    found = read_artifact(tmp_path / "out")
    entries = found.manifest["tensors"]
    assert entries["odd.weight"]["why"] == "not pruned 2:4, since 4 does not divide the rows"
    assert entries["odd.weight"]["nonzeros"] == entries["odd.weight"]["weights"]
    assert (entries["dense.weight"]["nonzeros"], entries["dense.weight"]["layout"]) == (96, "bitmap")
    dense = np.asarray(found.tensors["dense.weight"].dense())
    assert (np.count_nonzero(dense.reshape(-1, 4), axis=1) <= 2).all()
    step = {"step": "PruneNOfM", "n": 2, "m": 4, "recovery": None}
    assert found.manifest["compression"]["steps"] == [step]
