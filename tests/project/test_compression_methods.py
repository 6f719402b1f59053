"""The benchmark of compression methods, rehearsed on a tiny run."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.project.benchmark_scripts import load_benchmark
from tlc_jax.compression.methods import STEPS, PruneNOfM
from tlc_jax.tasks.metric import NATS_PER_BYTE


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    return load_benchmark("compression_methods", monkeypatch)


def test_methods_differ_and_are_steps(benchmark: types.ModuleType) -> None:
    every = list(benchmark.methods([0.3, 0.5], 6))
    assert len({method.name for method in every}) == len(every) == 15
    assert {"5 of 6 layers", "3 of 6 layers"} <= {method.name for method in every}
    assert all(type(step) in STEPS for method in every for step in (*method.steps, *method.as_large))


def test_intervals_are_those_of_resampled_examples(benchmark: types.ModuleType) -> None:
    """Paired, of a ratio of sums."""
    rng = np.random.default_rng(0)
    weights = rng.integers(5, 50, 400).astype(float)
    before = weights * rng.normal(2.0, 0.3, 400)
    after = before + weights * rng.normal(0.02, 0.1, 400)
    measurer = types.SimpleNamespace(metric=NATS_PER_BYTE, _before=(before, weights))
    row = benchmark.Measurer._row(measurer, "a method", 4, 1000, 1.0, (after, weights))
    assert row["difference"] == pytest.approx((after - before).sum() / weights.sum())
    drawn = []
    for _ in range(1000):
        rows = rng.integers(0, 400, 400)
        drawn.append((after[rows] - before[rows]).sum() / weights[rows].sum())
    low, high = row["interval"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(drawn), rel=0.1)
    assert row["nats_per_byte"] == pytest.approx(after.sum() / weights.sum())


@pytest.mark.slow
def test_it_writes_a_table_at_equal_bytes(
    benchmark: types.ModuleType, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [method for method in benchmark.methods([0.5], 2) if method.name == "1 of 2 layers"]
    most = benchmark.Method("float32", (), (PruneNOfM(1, 2),))
    monkeypatch.setattr(benchmark, "methods", lambda sparsities, layers: iter([*some, most]))
    monkeypatch.setattr(benchmark, "BITS", (6, 3))
    monkeypatch.setattr(sys, "argv", ["benchmarks/compression_methods.py", "RUN"])
    benchmark.main([str(finished), "--bits", "3", "--output", str(tmp_path / "new" / "methods")])
    result = json.loads((tmp_path / "new" / "methods.json").read_text(encoding="utf-8"))
    plain, layer, _ = result["rows"]
    assert (plain["bits"], plain["limit"]) == (3, plain["file_bytes"])
    assert 0 < layer["file_bytes"] <= plain["file_bytes"]
    table = (tmp_path / "new" / "methods.md").read_text(encoding="utf-8")
    assert "python benchmarks/compression_methods.py RUN" in table
    assert result["commit"] in table
    assert sum(line.startswith("| ") for line in table.splitlines()) == 5
