"""The paper's timing protocol: what fits, when the time has settled, and curves over the measured time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests import builders
from tlc_jax import bench, report, train
from tlc_jax.config import Config, EncoderDecoderConfig, PairsConfig, TranslationConfig
from tlc_jax.core.errors import UserError
from tlc_jax.runs.memory import _largest, largest_micro_batch, micro_batch_sizes, peak_or_infinite
from tlc_jax.runs.step_time import measure_in_turns, settle, take_turns
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.curves import read_curves
from tlc_jax.tasks.base import Task


@given(st.integers(1, 400), st.sampled_from([1, 2, 8]), st.integers(0, 5000))
def test_largest_micro_batch_is_that_of_trying_all(parts: int, devices: int, limit: int) -> None:
    batch_size = parts * devices
    fitting = [
        rows
        for rows in range(1, batch_size + 1)
        if batch_size % rows == 0 and rows % devices == 0 and 100 + 7 * rows <= limit
    ]
    asked: list[int] = []
    sizes = micro_batch_sizes(Config(batch_size=batch_size), devices)

    def peak(rows: int) -> float:
        asked.append(rows)
        return 100 + 7 * rows

    if fitting:
        assert largest_micro_batch(sizes, limit, peak) == max(fitting)
    else:
        with pytest.raises(UserError, match=rf"a micro-batch of {devices} needs \S+ GiB"):
            largest_micro_batch(sizes, limit, peak)
    assert len(asked) == len(set(asked)) <= 6


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_micro_batches_of_tokens_have_rows_for_every_device(devices: int) -> None:
    task = TranslationConfig(row_multiple=32)
    config = Config(model=EncoderDecoderConfig(), task=task, data=PairsConfig(), batch_size=32_768)
    found = micro_batch_sizes(config, devices)
    assert found == [32_768 // n for n in (32, 16, 8, 4, 2, 1) if 32 // n >= devices]
    for size in found:
        assert dataclasses.replace(config, micro_batch=size).rows_at_once % devices == 0


def test_memory_is_asked_of_the_longest_batch() -> None:
    """Attention takes the square of the length: of batches of as many tokens the longest needs most."""
    shapes = [(32, 20), (16, 40), (64, 10)]
    batches = [{"tokens": np.zeros(shape, np.int32), "labels": np.zeros(shape[:1])} for shape in shapes]
    found = _largest(cast(Task, SimpleNamespace(sample_batches=lambda _: batches)))
    assert found["tokens"].shape == (16, 40)


def test_what_the_compiler_refuses_does_not_fit() -> None:
    import jax

    def refused() -> int:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory on HBM")

    def broken() -> int:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    assert peak_or_infinite(refused) == math.inf
    assert peak_or_infinite(lambda: 3) == 3
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        peak_or_infinite(broken)


def _laps(seconds: Iterable[float]) -> Callable[[int], list[float]]:
    steps = iter(seconds)
    return lambda count: list(itertools.islice(steps, count))


def test_time_is_taken_after_it_has_settled() -> None:
    slow = [3.0 * 0.8**i + 1.0 for i in range(1000)]
    warm_up, last = settle(_laps(slow), Console(quiet=True))
    assert last == np.median(slow[warm_up - 10 : warm_up])

    def change(end: int) -> float:  # from ten steps to the ten after them
        return 1 - np.median(slow[end - 10 : end]) / np.median(slow[end - 20 : end - 10])

    assert change(warm_up) <= 0.05 < change(warm_up - 10)


def test_time_that_never_settles_is_taken_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    jumping = (1.0 + i // 10 % 2 for i in itertools.count())
    warm_up, last = settle(_laps(jumping), Console(width=200))
    assert (warm_up, last) == (200, 2.0)
    assert "has not settled in 200 steps" in capsys.readouterr().out


def test_updates_take_turns() -> None:
    asked = []

    def laps(name: str) -> Callable[[int], list[float]]:
        def of(count: int) -> list[float]:
            asked.append((name, count))
            return [float(len(asked))] * count

        return of

    both = [laps("small"), laps("large")]
    turns = take_turns(both, [3, 2], Console(quiet=True), 2)
    assert asked == [("small", 3), ("large", 2)] * 2
    assert turns == [[[1.0] * 3, [3.0] * 3], [[2.0] * 2, [4.0] * 2]]


@pytest.mark.parametrize(("wanted", "taken"), [(1, 3), (5, 5), (1000, 60)])
def test_turns_are_taken_until_there_are_enough(wanted: int, taken: int) -> None:
    def enough(means: Sequence[Sequence[float]]) -> bool:
        assert means == [[1.5] * len(means[0])] * 2
        return len(means[0]) >= wanted

    both = [_laps(itertools.cycle([1.0, 2.0])) for _ in range(2)]
    turns = take_turns(both, [2, 2], Console(quiet=True), 3, enough)
    assert [len(each) for each in turns] == [taken, taken]


@pytest.mark.slow
@pytest.mark.parametrize("memory_gib", [None, 1.0])
def test_the_time_of_two_updates_in_turns(
    finished: Path, memory_gib: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit of memory, too, where the state of one makes room for that of the other."""
    builders.short_timings(monkeypatch)
    config = dataclasses.replace(RunDir(finished).read_config(), memory_gib=memory_gib)
    deeper = dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=4))
    one, other = measure_in_turns([(config, None), (deeper, None)], Console(quiet=True), steps=20, turns=5)
    for timing in (one, other):
        assert len(timing["turn_seconds"]) == 5
        assert timing["steps"] >= 20
        assert timing["mean_seconds"] == pytest.approx(np.mean(timing["turn_seconds"]))
    assert (one["model"]["num_layers"], other["model"]["num_layers"]) == (2, 4)


@pytest.fixture(scope="module")
def timing(command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timing") / "tiny.json"
    bench.main(["step-time", *_without_workdir(command("W")), "--memory-gib", "0.002", "--output", str(path)])
    return path


@pytest.mark.slow
def test_timing_file_of_the_largest_micro_batch_that_fits(timing: Path) -> None:
    found = json.loads(timing.read_text())
    assert found["batch_size"] == 16
    assert found["micro_batch"] in (8, 16)  # 8 devices: no other part of 16 rows splits over them
    assert found["peak_bytes"] <= found["memory_limit_bytes"] == int(0.002 * 2**30)
    assert found["steps"] >= 100
    assert len(found["turn_seconds"]) == 10
    assert found["mean_seconds"] * found["tokens_per_second"] == pytest.approx(16 * 32)
    assert 0 < found["median_seconds"] < 2 * found["mean_seconds"]


@pytest.mark.slow
def test_curve_over_measured_time(timing: Path, finished: Path, tmp_path: Path) -> None:
    mean = json.loads(timing.read_text())["mean_seconds"]
    lines = [line for line in builders.lines(finished) if "eval/held_out/perplexity" in line]
    (curve,) = read_curves([finished], [timing])
    assert curve.seconds == pytest.approx([line["step"] * mean for line in lines])
    assert list(curve.values) == [line["eval/held_out/perplexity"] for line in lines]
    (own,) = read_curves([finished], [])
    assert own.values == curve.values
    assert own.seconds != curve.seconds
    line = ["curves", str(finished), "--step-time", str(timing), "--output", str(tmp_path / "c.png")]
    report.main(line)
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_curves_refuse_a_time_of_another_model(timing: Path, finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(timing.read_text().replace('"num_layers": 2', '"num_layers": 3'))
    with pytest.raises(UserError, match=r"needs one timing file of its model.*0 were given"):
        read_curves([finished], [other])
    with pytest.raises(UserError, match=r"no run matches .*other\.json"):
        read_curves([finished], [timing, other])
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UserError, match=r"broken\.json is not a timing file"):
        read_curves([finished], [tmp_path / "broken.json"])
    fresh = shutil.copytree(finished, tmp_path / "fresh")
    (fresh / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="has no evaluation yet"):
        read_curves([fresh], [])


def test_curves_over_the_time_of_different_devices_are_refused(tmp_path: Path) -> None:
    """Before any run is read: seconds of one device on the time axis of another say nothing."""
    for name, devices in (("a", "1 x cpu"), ("b", "1 x cpu"), ("c", "8 x TPU v3")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"mean_seconds": 1.0, "devices": devices}))
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    with pytest.raises(UserError, match=r"b\.json was measured on 1 x cpu and \S+c\.json on 8 x TPU v3"):
        read_curves([], [a, b, c])
    with pytest.raises(UserError, match="no run matches"):
        read_curves([], [a, b])


def test_bench_says_what_it_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="bench has no command speed; it has step-time, compile"):
        bench.main(["speed"])
    with pytest.raises(SystemExit) as stop:
        bench.main([])
    assert stop.value.code == 0
    assert "{step-time,compile}" in capsys.readouterr().out
    with pytest.raises(UserError, match="memory_gib must be positive"):
        bench.main(["step-time", "--config", "quickstart", "--memory-gib", "0"])
    topology = ["--topology", "v3:2x2", "--output", str(tmp_path)]
    with pytest.raises(UserError, match=f"--output {tmp_path} is a folder"):
        bench.main(["compile", "--config", "quickstart", *topology])


@pytest.mark.slow
def test_auto_is_found_once_and_kept(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def start(workdir: str, *more: str) -> str:
        cache = ["--data.cache-dir", str(tmp_path / "cache"), "--budget.steps", "2"]
        train.main(command(tmp_path / workdir, "--micro-batch", "auto", *cache, *more))
        return capsys.readouterr().out

    def peak(rows: int, output: str) -> float:
        return float(re.findall(rf"micro-batch of {rows}: (\S+) GiB", output)[0])

    with pytest.raises(UserError, match="a cpu does not say how much memory it has: set memory_gib"):
        start("none")
    roomy = start("roomy", "--memory-gib", "1")
    assert "micro_batch 16: the most that fit in 1 GiB of each device" in roomy
    most = peak(16, roomy)
    less = str(0.99 * most)
    one = start("one", "--memory-gib", less)
    assert "micro_batch 8: the most that fit" in one
    assert peak(8, one) < 0.99 * most
    assert RunDir(tmp_path / "one").read_config().micro_batch == 8
    again = start("one")
    assert "complete: 2 steps" in again, "whatever the memory"
    assert "micro_batch 8, as when the run began" in again
    with pytest.raises(UserError, match=r"batch_size is 4 but the run has 16"):
        start("one", "--batch-size", "4")
    assert "micro-batch of" not in start("two", "--memory-gib", less), "found before"
    for known in (tmp_path / "cache" / "micro_batch").iterdir():
        known.write_text("")  # torn
    assert "micro-batch of" in start("four", "--memory-gib", less), "found again"
    with pytest.raises(UserError, match=r"a micro-batch of 8 needs \S+ GiB on each device, which has"):
        start("three", "--memory-gib", str(peak(8, one) / 2))


def _without_workdir(arguments: list[str]) -> list[str]:
    place = arguments.index("--workdir")
    return arguments[:place] + arguments[place + 2 :]
