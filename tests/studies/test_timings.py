"""A training is counted by the timing of the program that it began with; a changed program is timed again."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from tests.studies.untrained import FIRST, SECOND, Folder
from tlc_jax import report
from tlc_jax.config import Config, DataConfig, ModelConfig
from tlc_jax.runs import step_program
from tlc_jax.runs.step_program import program_of
from tlc_jax.studies import timings
from tlc_jax.studies.exhibits.equal_time import measurements


@pytest.fixture
def timed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The seconds of an update, by the program that this version has; each timing is noted."""
    now: dict[str, Any] = {"program": "old", "seconds": {"old": 0.01, "new": 0.02}, "measured": []}
    now["speeds"] = itertools.repeat(1.0)

    def measure(updates: list[tuple[Config, None]], console: object, **options: Any) -> list[dict[str, Any]]:
        assert options == ({"enough": timings.sure} if len(updates) > 1 else {})
        layers = [config.model.num_layers for config, _ in updates]
        now["measured"].append((layers[-1], len(folder.trained)))
        speed = next(now["speeds"])  # of the machine, while these are measured
        seconds = [speed * now["seconds"][now["program"]] * count for count in layers]
        return [{"mean_seconds": each, "turn_seconds": [each, each], "steps": 100} for each in seconds]

    monkeypatch.setattr(timings, "measure_in_turns", measure)
    monkeypatch.setattr(timings, "program_of", lambda config: now["program"])
    return now


COUNTED = ["--counted-in", "steps"]


def steps(folder: Folder) -> dict[str, int | None]:
    """The updates of each training that is finished, after its timing was multiplied out again."""
    updates = {}
    for row in folder.store.rows(stage="train", last=True):
        if row["metric"] == "nats_per_byte":
            [timing] = folder.store.rows(item=row["timing"], metric="mean_seconds")
            assert row["training_seconds"] == row["step"] * timing["value"]
            updates[row["item"]] = row["step"]
    return updates


def test_a_changed_program_is_timed_again_for_trainings_that_begin_later(
    folder: Folder, timed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder.go("", *COUNTED)
    assert timed["measured"] == [(1, 0), (2, 0)]
    timed["program"] = "new"
    folder.go("", *COUNTED)
    assert len(timed["measured"]) == 2, "nothing is to begin"
    folder.go("", *COUNTED, "--seeds", "5")
    assert timed["measured"][2:] == [(1, 0), (2, 0)], "before anything is trained"
    expected = {"1x16/seed0": 100, "2x16/seed0": 50, "1x16/seed5": 50, "2x16/seed5": 25}
    assert steps(folder) == {f"{run}/trained": count for run, count in expected.items()}
    timed["program"] = "old"
    folder.go("", *COUNTED, "--seeds", "6")
    assert len(timed["measured"]) == 4, "both programs have been timed"
    assert steps(folder)["1x16/seed6/trained"] == 100
    report.main(["study", str(folder.workdir), "--output", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text()
    assert "1x16 10 ms by " in page
    assert page.count("for 2 trainings") == page.count("for 1 training") == 2


def test_equal_time_does_not_depend_on_the_speed_of_the_machine_at_each_timing(
    folder: Folder, timed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Sizes are timed in turns with the first of them, of which the seconds are."""
    timed["speeds"] = iter([2.0, 1.0, 5.0])
    folder.go("", *COUNTED)
    assert "2x16: an update takes 2 [2, 2] times as long as one of 1x16\n" in capsys.readouterr().out
    assert steps(folder) == {f"{FIRST}trained": 50, f"{SECOND}trained": 25}
    folder.go("", *COUNTED, "--sizes", "1x16", "2x16", "4x16")
    assert steps(folder)["4x16/seed0/trained"] == round(50 / 4)
    [row] = folder.store.rows(item="timing/4x16", metric="mean_seconds")
    assert (row["reference"], row["value"]) == ("timing/1x16", pytest.approx(0.08))
    report.main(["study", str(folder.workdir), "--output", str(tmp_path / "page.md")])
    assert "4x16 80 ms (4 [4, 4] times that of 1x16, in turns) by " in (tmp_path / "page.md").read_text()


def test_a_ratio_has_the_interval_of_its_turns() -> None:
    reference = np.array([1.0, 2.0, 1.5, 4.0, 1.0])  # a machine that changes its speed
    noise = np.array([0.02, -0.01, 0.0, 0.01, -0.02])
    ratio = timings.ratio_of_turns(list(3.0 * reference * np.exp(noise)), list(reference))
    half = scipy.stats.t.ppf(0.975, 4) * np.std(noise, ddof=1) / np.sqrt(5)
    expected = 3.0 * np.exp(np.array([0.0, -half, half]))
    assert list(ratio.values()) == pytest.approx(expected)
    assert half < np.log(1.05), "known to 5 %"
    assert timings.sure([list(reference), list(3.0 * reference * np.exp(noise))])
    assert not timings.sure([list(reference), list(3.0 * reference * np.exp(3 * noise))])


def test_a_ratio_that_is_not_sure_is_said_to_be(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def measure(updates: list[tuple[Config, None]], console: object, **options: Any) -> list[dict[str, Any]]:
        turns = [[0.01, 0.01, 0.01], [0.02, 0.03, 0.025]][: len(updates)]
        return [{"mean_seconds": np.mean(each).item(), "turn_seconds": each, "steps": 100} for each in turns]

    monkeypatch.setattr(timings, "measure_in_turns", measure)
    folder.go("", *COUNTED)
    assert "times as long as one of 1x16: is the machine busy?" in capsys.readouterr().out


def test_a_training_under_way_keeps_the_timing_that_it_began_with(
    folder: Folder, timed: dict[str, Any]
) -> None:
    folder.go(f"{SECOND}trained", *COUNTED)
    begun = folder.store.path(f"{FIRST}trained")
    begun.unlink()  # it has begun, and is not finished
    timed["program"] = "new"
    folder.go("", *COUNTED)
    assert steps(folder) == {f"{FIRST}trained": 100, f"{SECOND}trained": 25}
    assert timed["measured"] == [(1, 0), (2, 0), (2, 0)], "of the first size nothing is to begin"


def test_a_timing_of_an_older_version_holds_for_all_programs(folder: Folder, timed: dict[str, Any]) -> None:
    """It does not say which it measured; a study that has begun keeps it."""
    folder.go(f"{FIRST}trained", *COUNTED)
    for name in ("timing/1x16", "timing/2x16"):
        result = folder.store.result(name)
        del result["fields"]["program"]
        folder.store.path(name).unlink()
        folder.store.seal(result)
    timed["program"] = "new"
    folder.resume()
    assert len(timed["measured"]) == 2
    assert steps(folder) == {f"{FIRST}trained": 100, f"{SECOND}trained": 50}


def test_branches_are_counted_as_their_trunk(folder: Folder, timed: dict[str, Any]) -> None:
    text = folder.document.read_text(encoding="utf-8")
    trunk = 'follows="training_seconds", cooldown=0.0, warmup=0.0), checkpoint=CheckpointConfig(marks="1/2")'
    folder.document.write_text(text.replace('follows="training_seconds")', trunk), encoding="utf-8")
    folder.go(f"{FIRST}at-1-2", *COUNTED)
    timed["program"] = "new"
    folder.go("", *COUNTED, "--seeds", "5")
    branches = {
        row["item"]: (row["timing"], row["training_seconds"] / row["step"])
        for row in folder.store.rows(stage="branch", last=True)
    }
    assert branches[f"{FIRST}at-1-2"] == ("timing/1x16", pytest.approx(0.01))
    assert branches["1x16/seed5/at-1-2"] == ("timing/1x16@new", pytest.approx(0.02))


def test_rows_are_those_of_the_device_that_timed_their_program(folder: Folder, timed: dict[str, Any]) -> None:
    folder.go("", *COUNTED)
    timed["program"] = "new"
    folder.go("", *COUNTED, "--seeds", "5", "6")
    for name in ("timing/1x16@new", "timing/2x16@new"):
        result = folder.store.result(name)
        result["made"]["device"] = "another CPU"
        folder.store.path(name).unlink()
        folder.store.seal(result)
    shown = measurements(folder.store)
    assert {row["seed"] for row in shown} == {5, 6}, "most rows were timed there"


def test_a_program_is_that_of_the_update_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelConfig(head_size=8, hidden_size=16, num_layers=1, vocab_size=300, max_positions=32)
    config = Config(model=model, data=DataConfig(sequence_length=32), batch_size=16)
    program = program_of(config)
    optimizer = dataclasses.replace(config.optimizer, learning_rate=0.5)
    same = dataclasses.replace(config, seed=7, optimizer=optimizer, log_every=3)
    assert program_of(same) == program
    dropout = dataclasses.replace(config.model, dropout=0.25)
    assert program_of(dataclasses.replace(config, model=dropout)) != program
    plain = step_program.make_train_step

    def changed(*arguments: Any) -> Any:
        step = plain(*arguments)

        def train_step(state: Any, *rest: Any) -> Any:
            state, sums = step(state, *rest)
            return state, {**sums, "twice": 2 * sums["loss"]}

        return train_step

    monkeypatch.setattr(step_program, "make_train_step", changed)
    program_of.cache_clear()
    assert program_of(config) != program
    monkeypatch.setattr(step_program, "make_train_step", plain)
    packages = {**step_program.versions()["packages"], "jaxlib": "0.0.1"}
    monkeypatch.setattr(step_program, "versions", lambda: {"packages": packages})
    program_of.cache_clear()
    assert program_of(config) != program, "another compiler"
    program_of.cache_clear()
