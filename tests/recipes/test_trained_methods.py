"""The benchmark of methods that train, rehearsed with one method on a tiny run."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.project.benchmark_scripts import load_benchmark
from tlc_jax.compression.pipeline import recipe_of
from tlc_jax.recipes.recover import trains


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    return load_benchmark("trained_methods", monkeypatch)


def test_methods_are_compared_at_the_bits_that_they_name(benchmark: types.ModuleType) -> None:
    for name, method in benchmark.METHODS.items():
        config, training = method.config, trains(recipe_of(method.config))
        if " bits" in name:
            assert (config.bits, config.granularity) == (int(name[0]), "group:64"), name
            assert training == ("training" in name)
        else:
            assert training, name
        assert config.matrices_only, name
        recovery = config.recovery
        if recovery is not None and not name.startswith("a "):
            assert recovery.target == 2, f"{name} may end an epoch early"
            assert (recovery.distil_weight > 0) == ("taught" in name), name
    six = [method.config.recovery for name, method in benchmark.METHODS.items() if "six epochs" in name]
    assert [r.max_epochs * (1 if r.movement else len(r.levels)) for r in six] == [6, 6]


def test_rows_are_paired_with_the_uncompressed_runs_and_count_updates(benchmark: types.ModuleType) -> None:
    rng = np.random.default_rng(0)
    dense = rng.random((2, 400)) < 0.9
    levels = [{"sparsity": share, "steps": 10} for share in (0.3, 0.6, 0.75, 0.9)]
    kept = dict.fromkeys(benchmark.METHODS["rounds"].rounds, dense)
    size = {"nonzeros": 3, "weights": 10, "float32_bytes": 40}
    right = {**kept, "pruned-60": dense ^ (rng.random(dense.shape) < 0.05), "": dense}
    made = [
        {
            "right": {k: v[seed] for k, v in right.items()},
            "manifest": {"recovery": levels, "size": size},
            "file_bytes": 100 + seed,
        }
        for seed in (0, 1)
    ]
    rows = {row["method"]: row for row in benchmark.rows_of("rounds", made, dense)}
    assert {name: row["updates"] for name, row in rows.items() if "pruned" in name} == {
        "rounds: pruned-30": 10,
        "rounds: pruned-60": 20,
        "rounds: pruned-75": 30,
        "rounds: pruned-90": 40,
    }
    assert rows["rounds"]["file_bytes"] == [100, 101]
    assert rows["rounds"]["zeros"] == pytest.approx(0.7)
    changed, (low, high) = rows["rounds: pruned-60"], rows["rounds: pruned-60"]["interval"]
    assert changed["difference"] == pytest.approx(right["pruned-60"].mean() - dense.mean())
    by_example = right["pruned-60"].astype(float).mean(0) - dense.mean(0)
    drawn = [by_example[rng.integers(0, 400, 400)].mean() for _ in range(2000)]
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(drawn), rel=0.1)


@pytest.mark.slow
def test_a_method_is_compressed_evaluated_and_not_done_twice(
    benchmark: types.ModuleType, finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = benchmark.Method(
        "--config prune_and_quantize --recovery.levels 0.3 --sparsity 0.3 --recovery.max-epochs 0.2 "
        "--recovery.target 2",
        ("pruned-30",),
    )
    monkeypatch.setattr(benchmark, "METHODS", {"short": short})
    monkeypatch.setattr(sys, "argv", ["benchmarks/trained_methods.py", "RUN"])
    arguments = [
        str(finetuned / "run"),
        "--data-dir",
        str(finetuned / "tables"),
        "--workdir",
        str(tmp_path / "w"),
    ]
    benchmark.main([*arguments, "--output", str(tmp_path / "one")])
    monkeypatch.setattr(benchmark, "called", lambda *command: pytest.fail(f"run again: {command}"))
    benchmark.main([*arguments, "--output", str(tmp_path / "two")])
    one, two = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in ("one", "two"))
    assert one == two
    kept, artifact = one["rows"]
    assert kept["method"] == "short: pruned-30"
    assert kept["updates"] == artifact["updates"] > 0
    assert 0.2 < artifact["zeros"] < 0.31
    table = (tmp_path / "one.md").read_text("utf-8")
    assert f"| short | {artifact['file_bytes'][0]:,} |" in table
