"""What a process does that works on a study: the order of items, leases, timings, trunks and searches."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.studies.untrained import COMBINATION, FIRST, SECOND, Folder
from tlc_jax.config import Config
from tlc_jax.core.errors import UserError
from tlc_jax.runs.step_time import timed
from tlc_jax.storage.lock import locked
from tlc_jax.studies import item_worker, timings, train_item
from tlc_jax.studies.items import items_of
from tlc_jax.studies.study_record import read_config

TRAINED = f"{FIRST}trained"


def test_an_item_that_another_process_has_is_waited_for(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Everything else is done meanwhile; when the other process ends, its item is taken up."""
    monkeypatch.setattr(item_worker, "_PAUSE", 0.02)
    lease = folder.workdir / "leases" / TRAINED
    folder.go(FIRST)
    ended, order = threading.Event(), list[str]()

    def other_process() -> None:
        with locked(lease, wait=False):
            held.set()
            ended.wait(60)
            order.extend(folder.trained)

    held, other = threading.Event(), threading.Thread(target=other_process)
    other.start()
    assert held.wait(60)

    def sleep(seconds: float) -> None:
        ended.set()
        other.join()

    monkeypatch.setattr(item_worker.time, "sleep", sleep)
    trained = folder.go()
    assert order == trained[:3]
    assert order == [f"{SECOND}{run}" for run in ("trained", f"{COMBINATION}-seed1", f"{COMBINATION}-seed2")]
    assert trained[3:] == [name.replace(SECOND, FIRST) for name in order]
    assert "waiting for other processes" in capsys.readouterr().out


def test_what_another_process_has_finished_meanwhile_is_not_done_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at an item and its lease."""
    folder.go(SECOND)
    copy = folder.root / "copy"
    shutil.copytree(folder.workdir, copy)
    folder.go()
    complete, folder.workdir = folder.files(), copy
    rest = [name for name in complete if name.startswith(SECOND)]

    def take(path: Path, *, wait: bool) -> Any:
        for name in rest:
            target = copy / "items" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(complete[name])
        return locked(path, wait=wait)

    monkeypatch.setattr(item_worker, "locked", take)
    assert folder.go() == []
    assert folder.measured == []
    assert folder.files() == complete


def test_sizes_of_a_study_that_counts_steps_are_timed_before_anything_is_trained(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their seconds become updates: a busy machine trains no less."""
    seconds = {1: 0.0125, 2: 0.03}

    def measure(updates: list[tuple[Config, None]], console: object, **options: Any) -> list[dict[str, Any]]:
        assert folder.trained == []
        timings = []
        for config, _ in updates:
            each = seconds[config.model.num_layers]
            about = {"mean_seconds": each, "turn_seconds": [each, each], "steps": 100, "settled": True}
            timings.append({**timed(config), **about, "devices": "1 x cpu"})
        return timings

    monkeypatch.setattr(timings, "measure_in_turns", measure)
    folder.go("", "--counted-in", "steps")
    for size, steps in (("1x16", 80), ("2x16", 33)):
        config = folder.configs[f"{size}/seed0/trained"]
        assert (config.budget.steps, config.budget.training_seconds) == (steps, None)
        assert config.schedule.follows == "steps"
        [timing] = folder.store.rows(item=f"timing/{size}", metric="mean_seconds")
        assert timing["value"] == pytest.approx(seconds[config.model.num_layers])
        rows = folder.store.rows(size=size, stage="train", last=True)
        assert rows
        assert {row["training_seconds"] for row in rows} == {steps * timing["value"]}, (
            "not those of the clock"
        )


def test_a_trunk_has_a_branch_for_each_mark(folder: Folder) -> None:
    text = folder.document.read_text(encoding="utf-8")
    trunk = (
        'follows="training_seconds", cooldown=0.0, warmup=0.0), checkpoint=CheckpointConfig(marks="1/4,1/2")'
    )
    text = text.replace('follows="training_seconds")', trunk).replace(
        'sizes=("1x16", "2x16")', 'sizes=("1x16",)'
    )
    folder.document.write_text(text, encoding="utf-8")
    trained = folder.go()
    assert trained[:3] == [f"{FIRST}{name}" for name in ("trained", "at-1-4", "at-1-2")]
    for name, seconds in (("at-1-4", 0.25), ("at-1-2", 0.5)):
        config = folder.configs[FIRST + name]
        assert config.budget.training_seconds == seconds
        assert config.schedule.cooldown
        rows = folder.store.rows(item=FIRST + name)
        assert [row["step"] for row in rows if not row["last"]] == [0], "its other lines are the trunk's"
        assert {row["mark"] for row in rows} == {name.removeprefix("at-").replace("-", "/")}
    later = [row for row in folder.store.rows() if row["stage"] in ("finetune", "compress")]
    assert {row["mark"] for row in later} == {"1/2"}, "the last branch is finetuned and compressed"
    assert folder.resume() == []


@pytest.mark.parametrize(
    ("values", "best"),
    [
        # (accuracy, loss) of a seed: the mean of both decides, then the loss
        ({"0.001": [(0.9, 0.5), (0.6, 0.5)], "0.002": [(0.8, 0.6), (0.8, 0.6)]}, "0.002"),
        ({"0.001": [(0.8, 0.6), (0.8, 0.6)], "0.002": [(0.9, 0.4), (0.7, 0.4)]}, "0.002"),
        ({"0.001": [(0.8, 0.4), (0.8, 0.4)], "0.002": [(0.9, 0.6), (0.7, 0.6)]}, "0.001"),
    ],
)
def test_the_combination_with_the_best_mean_on_the_tuning_set_is_compressed(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, list[tuple[float, float]]],
    best: str,
) -> None:
    def train_run(config: Config, workdir: Path, *arguments: Any, **options: Any) -> None:
        folder.train_run(config, workdir, *arguments, **options)
        if not workdir.name.startswith("lr"):
            return
        accuracy, loss = values[f"{config.optimizer.learning_rate:g}"][config.seed - 1]
        sets = {"tuning": (accuracy, loss), "test": (1 - accuracy, 1 - loss)}  # which has no say
        line = {f"eval/{name}/accuracy": right for name, (right, _) in sets.items()}
        line |= {f"eval/{name}/loss": lost for name, (_, lost) in sets.items()}
        times = {"step": 4, "training_seconds": 1.0, "total_seconds": 1.0}
        (workdir / "metrics.jsonl").write_text(f"{json.dumps({**times, **line})}\n")

    monkeypatch.setattr(train_item, "train_run", train_run)
    options = ["--search.learning-rates", "0.001", "0.002", "--sizes", "1x16", "--bits", "4"]
    folder.go("", *options, "--sparsities", "0.5")
    compressed = folder.store.rows(stage="compress")
    assert {row["combination"] for row in compressed} == {f"lr{best}-batch16-dropout0.1"}
    assert {row["finetuning_seed"] for row in compressed} == {1, 2}
    assert folder.measured == [(4, 0.5)] * 2
    config = read_config(folder.workdir)
    assert config is not None
    assert all(folder.store.has(item.name) for item in items_of(config)), "the others are finished, too"


def test_another_run_in_the_place_of_its_own_is_refused(folder: Folder) -> None:
    """Of the same data, but with other results."""
    folder.go(f"{SECOND}lr")
    name, runs = f"{COMBINATION}-seed1", folder.workdir / "runs" / FIRST
    shutil.rmtree(runs / name)
    shutil.copytree(runs / f"{COMBINATION}-seed2", runs / name)
    with pytest.raises(UserError, match=rf"{name} is not the run of .*{name}.json: its loss on tuning is"):
        folder.go("", "--bits", "8")
    assert (8, 0.0) not in folder.measured


@pytest.mark.parametrize("lines", [0, 1])
def test_a_run_without_its_last_evaluation_is_not_finished(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    def train_run(config: Config, workdir: Path, *arguments: Any, **options: Any) -> None:
        folder.train_run(config, workdir, *arguments, **options)
        kept = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)[:lines]
        (workdir / "metrics.jsonl").write_text("".join(kept))

    monkeypatch.setattr(train_item, "train_run", train_run)
    with pytest.raises(UserError, match="metrics.jsonl lacks the evaluations of a finished run: restore"):
        folder.go()
    assert not folder.store.has(TRAINED)


def test_a_study_without_finetuning_compresses_what_it_trains(folder: Folder) -> None:
    text = folder.document.read_text(encoding="utf-8").replace("finetune=finetune,", "")
    folder.document.write_text(text, encoding="utf-8")
    assert folder.go() == [f"{size}trained" for size in (FIRST, SECOND)]
    assert folder.measured == [(32, 0.0), (4, 0.0), (32, 0.5), (4, 0.5)] * 2
    assert {row["item"].rpartition("/")[0] for row in folder.store.rows(stage="compress")} == {
        f"{FIRST}trained",
        f"{SECOND}trained",
    }
