"""Checkpoints that nothing can need are removed; those that a larger study needs stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.studies.untrained import FIRST, Folder
from tlc_jax.runs import saving
from tlc_jax.runs.checkpoint import marks_of, whole_steps
from tlc_jax.storage.lock import locked
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.sealed import seal
from tlc_jax.studies import train_item

RATES = ["0.001", "0.003", "0.002"]  # the second one is the best
SEARCH = ["--sizes", "1x16", "--bits", "4", "--sparsities", "0", "--search.learning-rates", *RATES]


class Disk:
    """The checkpoints of a study whose runs write small ones."""

    def __init__(self, folder: Folder):
        self._folder = folder
        self.most = 0
        self.marks: dict[int, list[str]] = {2: [], 4: []}

    def train_run(self, config: Any, workdir: Path, *arguments: Any, title: str) -> None:
        """Accuracy grows with the rate but for the last seed, which is a little worse."""
        self._folder.train_run(config, workdir, *arguments, title=title)
        if "/lr" in title:
            rate, seed = config.optimizer.learning_rate, config.seed
            values = {"accuracy": 100 * rate - seed / 100, "loss": 1.0}
            line = {"step": 4, "training_seconds": 1.0, "total_seconds": 1.0}
            line |= {f"eval/tuning/{name}": value for name, value in values.items()}
            (workdir / "metrics.jsonl").write_text(f"{json.dumps(line)}\n")
        marks = self.marks if title.endswith("trained") else {2: [], 4: []}
        for step, names in marks.items():
            path = RunDir(workdir).checkpoints / str(step)
            (path / "params").mkdir(parents=True)
            (path / "params" / "x").write_bytes(b"weights")
            seal(path, {"step": step, "marks": names})
        self.most = max(self.most, sum(len(steps) for run, steps in self.steps().items() if "/lr" in run))

    def steps(self) -> dict[str, list[int]]:
        """The whole checkpoints of each run."""
        runs = self._folder.workdir / "runs"
        return {
            str(path.parent.relative_to(runs)): whole_steps(path)
            for path in sorted(runs.rglob("checkpoints"))
        }


@pytest.fixture
def disk(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(folder)
    monkeypatch.setattr(train_item, "train_run", disk.train_run)
    return disk


def finetuned(rate: str, seed: int) -> str:
    return f"{FIRST}lr{rate}-batch16-dropout0.1-seed{seed}"


def test_finetunings_that_are_not_chosen_keep_metrics_alone(folder: Folder, disk: Disk) -> None:
    folder.go("", *SEARCH)
    for rate in RATES:
        for seed in (1, 2):
            rundir = RunDir(folder.workdir / "runs" / finetuned(rate, seed))
            kept = [2, 4] if rate == "0.003" else []
            assert whole_steps(rundir.checkpoints) == kept
            assert rundir.metrics.exists()
            assert rundir.config.exists()
            assert {path.name for path in rundir.checkpoints.iterdir()} == set(map(str, kept))
    assert disk.steps()[f"{FIRST}trained"] == [2, 4]
    assert disk.most == 2 * (2 + 2), "while it goes on, those of the best combination and of one more"
    assert folder.resume("--bits", "8") == [], "it grows without them"
    assert folder.measured == [(8, 0.0)] * 2


def test_a_process_that_is_killed_while_it_removes_is_replaced(
    folder: Folder, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its steps in turn; the others are removed by the next process."""
    retire, removed = saving._retire, list[Path]()

    class Killed(BaseException):
        pass

    def killed(path: Path) -> None:
        if len(removed) % 2:
            (path / "manifest.json").rename(path / "retired.json")  # the first thing that happens
        else:
            retire(path)
        removed.append(path)
        raise Killed

    monkeypatch.setattr(saving, "_retire", killed)
    for _ in range(8):
        with pytest.raises(Killed):
            folder.go("", *SEARCH)
    monkeypatch.setattr(saving, "_retire", retire)
    assert not any("/lr0.001" in name for name in folder.go("", *SEARCH)), "finished long ago"
    assert len(set(removed)) == len(removed)
    left = {run: steps for run, steps in disk.steps().items() if steps}
    assert set(left) == {f"{FIRST}trained", finetuned("0.003", 1), finetuned("0.003", 2)}
    assert not list((folder.workdir / "runs").rglob("retired.json"))


def test_a_run_that_somebody_uses_is_left_alone(folder: Folder, disk: Disk) -> None:
    folder.go(finetuned("0.003", 1), *SEARCH)
    first = folder.workdir / "runs" / finetuned("0.001", 1)
    with locked(first):
        folder.go("", *SEARCH)
        assert disk.steps()[finetuned("0.001", 1)] == [2, 4]
    folder.go("", *SEARCH)
    assert disk.steps()[finetuned("0.001", 1)] == []


def test_a_trunk_keeps_what_branches_begin_from_until_they_are_finished(folder: Folder, disk: Disk) -> None:
    text = folder.document.read_text(encoding="utf-8").replace("finetune=finetune,", "")
    trunk = (
        'follows="training_seconds", cooldown=0.0, warmup=0.0), '
        'checkpoint=CheckpointConfig(marks="1/4,1/2,epoch3")'
    )
    folder.document.write_text(text.replace('follows="training_seconds")', trunk), encoding="utf-8")
    disk.marks = {
        1: ["branch to 1/4"],
        2: ["1/4"],
        3: ["branch to 1/2", "epoch3"],
        4: [],
        5: ["branch to 1/2"],
    }
    folder.go(f"{FIRST}at-1-2", "--sizes", "1x16")
    assert disk.steps()[f"{FIRST}trained"] == [1, 2, 3, 4, 5], "one branch is still to come"
    folder.go("", "--sizes", "1x16")
    assert disk.steps() == {
        f"{FIRST}trained": [3, 4, 5],  # epochs are the user's wish; the newest stays
        f"{FIRST}at-1-2": [2, 4],
        f"{FIRST}at-1-4": [2, 4],
    }
    checkpoints = folder.workdir / "runs" / FIRST / "trained" / "checkpoints"
    assert marks_of(checkpoints, 3) == ["branch to 1/2", "epoch3"]
    assert folder.go("", "--sizes", "1x16", "--compressed-at", "1/4", "1/2") == [], "it grows"
    assert len(folder.measured) == 4
