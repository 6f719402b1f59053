"""Marks and branches: what is kept, and that a branch ends where a run of its own would have ended."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import parameters
from tlc_jax import evaluate, train
from tlc_jax.config import BudgetConfig, CheckpointConfig, Config, EvaluationConfig, ScheduleConfig
from tlc_jax.config.marks import branch_point, kept_marks, parse_mark
from tlc_jax.core.errors import UserError
from tlc_jax.runs.checkpoint import whole_steps
from tlc_jax.runs.named_begin import parse_branch
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.sealed import read_manifest
from tlc_jax.training.due import MarksAhead
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.schedule import controls, learning_rate


@given(st.lists(st.sampled_from(["1/16", "1/8", "0.25", "1", "epoch0.5", "epoch3"]), unique=True), st.data())
def test_each_mark_is_reported_once_at_the_first_step_that_reaches_it(
    names: list[str], data: st.DataObject
) -> None:
    """Also where a run begins in the middle: marks that it has passed are not reported again."""
    marks, steps = kept_marks(",".join(names), trunk=False), 40
    positions = [(step / steps, 4 * step / steps) for step in range(steps + 1)]
    first = data.draw(st.integers(0, steps))
    ahead = MarksAhead(marks, *positions[first])
    reported: dict[str, int] = {}
    for step in range(first + 1, steps + 1):
        names_now = ahead.reached(*positions[step])
        assert ahead.reached(*positions[step]) == names_now, "until they are saved"
        assert not reported.keys() & set(names_now)
        reported |= dict.fromkeys(names_now, step)
        ahead.drop(names_now)
    for mark in marks:
        at = next(step for step, position in enumerate(positions) if mark.reached(*position))
        assert reported.get(mark.name) == (at if at > first else None)


def test_what_is_no_mark_is_refused() -> None:
    for name in ("0", "5/4", "1/0", "half", "epoch", "epoch0", "-1/4"):
        with pytest.raises(ValueError, match="is no mark"):
            parse_mark(name)
    assert branch_point(parse_mark("1/4")).share == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"warmup lasts 0.3 .* leaves at 0.2, 80 %"):
        Config(
            schedule=ScheduleConfig(warmup=0.3, cooldown=0.0),
            checkpoint=CheckpointConfig(marks="1/4, 1"),
            budget=BudgetConfig(steps=10),
        )


def test_a_branch_ends_at_its_budget_wherever_its_trunk_was_to_stop(tmp_path: Path) -> None:
    trunk = Config(
        schedule=ScheduleConfig(warmup=0.1, cooldown=0.0),
        checkpoint=CheckpointConfig(marks="1/2, 1"),
        evaluation=EvaluationConfig(stop_at=2.0),
        budget=BudgetConfig(steps=10),
    )
    write_json(RunDir(tmp_path).config, dataclasses.asdict(trunk))
    branch = parse_branch(f"{tmp_path}@1/2").resolve(Config())
    assert (branch.budget.steps, branch.evaluation.stop_at) == (5, None)


def test_warm_up_stable_decay() -> None:
    schedule = ScheduleConfig(warmup=0.1, cooldown=0.2)
    rates = [learning_rate(2.0, schedule, fraction) for fraction in (0, 0.05, 0.1, 0.5, 0.8, 0.9, 0.95, 1)]
    assert rates == pytest.approx([0, 1, 2, 2, 2, 1, 0.5, 0])
    trunk = ScheduleConfig(warmup=0.1, cooldown=0.0)
    assert [learning_rate(2.0, trunk, fraction) for fraction in (0.05, 0.5, 1.0)] == [1.0, 2.0, 2.0]
    counted = ScheduleConfig(warmup=0.0, warmup_steps=10, cooldown=0.2)
    rates = [learning_rate(2.0, counted, step / 40, step) for step in (0, 5, 10, 20, 36, 40)]
    assert rates == pytest.approx([0, 1, 2, 2, 1, 0])


def test_a_warm_up_of_so_many_updates_is_that_of_a_run_with_the_branch_s_budget(tmp_path: Path) -> None:
    trunk = Config(
        schedule=ScheduleConfig(warmup=0.0, warmup_steps=30, cooldown=0.0),
        checkpoint=CheckpointConfig(marks="1/4,1"),
        budget=BudgetConfig(steps=100),
    )
    assert trunk.ends_at == 0.8
    write_json(RunDir(tmp_path).config, dataclasses.asdict(trunk))
    branch = parse_branch(f"{tmp_path}@1/4").resolve(Config()).schedule
    rates = [learning_rate(1.0, branch, step / 25, step) for step in range(26)]
    before = [learning_rate(1.0, trunk.schedule, step / 100, step) for step in range(21)]
    assert rates[:21] == before, "until it leaves, it is its trunk"
    assert rates[20:] == pytest.approx([20 / 30, 21 / 30, 0.6, 0.4, 0.2, 0.0])


def test_a_branch_widens_its_attention_as_its_trunk_does(tmp_path: Path) -> None:
    """Also where it leaves before the window is the whole row."""
    trunk = Config(
        schedule=ScheduleConfig(warmup=0.0, cooldown=0.0, local_attention_tokens=60 * 128 * 8),
        checkpoint=CheckpointConfig(marks="1/4,1"),
        budget=BudgetConfig(steps=100),
        batch_size=8,
    )
    write_json(RunDir(tmp_path).config, dataclasses.asdict(trunk))
    branch = parse_branch(f"{tmp_path}@1/4").resolve(Config())
    for step in range(26):
        window = controls(branch, step / 25, step)["attention_reach"]
        assert window == controls(trunk, step / 100, step)["attention_reach"] < 128


# --- whole runs --------------------------------------------------------------------------------------

TRUNK = ["--budget.steps", "16", "--schedule.warmup", "0.25", "--schedule.cooldown", "0", "--seed", "3"]


@pytest.fixture(scope="module")
def trunk(command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "trunk"
    train.main(command(workdir, *TRUNK, "--checkpoint.marks", "1/2,1,epoch0.1"))
    return workdir


@pytest.mark.slow
def test_marks_are_kept_with_their_time(trunk: Path) -> None:
    kept = {
        step: read_manifest(trunk / "checkpoints" / str(step)) for step in whole_steps(trunk / "checkpoints")
    }
    marks = {name: step for step, manifest in kept.items() for name in manifest["marks"]}
    assert {name: marks[name] for name in ("branch to 1/2", "1/2", "branch to 1")} == {
        "branch to 1/2": 7, "1/2": 8, "branch to 1": 13,
    }  # fmt: skip
    assert "1" not in marks, "a trunk ends where its last branch leaves it"
    assert max(kept) == 13
    assert "epoch0.1" in marks
    times = [(kept[step]["training_seconds"], kept[step]["total_seconds"]) for step in sorted(kept)]
    assert times == sorted(times)
    lines = {line["step"]: line for line in read_metrics(trunk / "metrics.jsonl") if "marks" in line}
    assert set(marks.values()) <= lines.keys()
    assert all(name in lines[step]["marks"] for name, step in marks.items())


@pytest.mark.slow
def test_a_branch_is_the_run_that_its_budget_would_have_had(
    trunk: Path, command, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    branch, own = tmp_path / "branch", tmp_path / "own"
    train.main(["--branch-from", f"{trunk}@1/2", "--workdir", str(branch)])
    assert "branch to 1/2 of" in capsys.readouterr().out
    scheduled = [
        "--budget.steps",
        "8",
        "--schedule.warmup",
        "0.5",
        "--schedule.cooldown",
        "0.2",
        "--seed",
        "3",
    ]
    train.main(command(own, *scheduled))
    ours, theirs = parameters(branch), parameters(own)
    for path, value in ours.items():
        np.testing.assert_array_equal(value, theirs[path], err_msg=path)
    last = [read_metrics(workdir / "metrics.jsonl")[-1] for workdir in (branch, own)]
    assert last[0]["eval/held_out/loss"] == last[1]["eval/held_out/loss"]
    trained = [line for line in read_metrics(branch / "metrics.jsonl") if "train/loss" in line]
    assert [line["step"] for line in trained] == [4, 8], "the trunk's lines are part of the story"
    start = json.loads((branch / "environment.json").read_text())["starts"][0]
    assert start["branch_from"] == f"{trunk}@1/2"
    train.main(["--branch-from", f"{trunk}@1/2", "--workdir", str(branch)])
    assert "complete: 8 steps" in capsys.readouterr().out


@pytest.mark.slow
def test_a_mark_is_evaluated(trunk: Path, capsys: pytest.CaptureFixture) -> None:
    evaluate.main(["--checkpoint", f"{trunk}@1/2", "--json"])
    said = json.loads(capsys.readouterr().out)
    [line] = [line for line in read_metrics(trunk / "metrics.jsonl") if "1/2" in line.get("marks", [])]
    assert said["step"] == 8
    assert said["eval/held_out/loss"] == pytest.approx(line["eval/held_out/loss"], rel=1e-6)
    with pytest.raises(UserError, match="holds no mark 1/3: it has 1/2, branch to 1"):
        evaluate.main(["--checkpoint", f"{trunk}@1/3"])


@pytest.mark.slow
def test_refusals(trunk: Path, command, tmp_path: Path) -> None:
    def refused(says: str, *arguments: str) -> None:
        with pytest.raises(UserError, match=says):
            train.main([*arguments, "--workdir", str(tmp_path / "w")])
        assert not (tmp_path / "w").exists()

    refused("has no mark 1/4: its checkpoint.marks are 1/2,1,epoch0.1", "--branch-from", f"{trunk}@1/4")
    early = shutil.copytree(trunk, tmp_path / "early")
    shutil.rmtree(early / "checkpoints" / "7")
    refused("holds no checkpoint 'branch to 1/2'", "--branch-from", f"{early}@1/2")
    refused("'x' is no mark", "--branch-from", f"{trunk}@x")
    refused("a share of the budget, not at epoch0.1", "--branch-from", f"{trunk}@epoch0.1")
    refused("is no RUN@MARK", "--branch-from", str(trunk))
    refused("is not a run directory", "--branch-from", f"{tmp_path}@1/2")
    refused("give no others with it", "--branch-from", f"{trunk}@1/2", "--seed", "4")
    refused("give no --config with it", "--branch-from", f"{trunk}@1/2", "--config", "quickstart")
