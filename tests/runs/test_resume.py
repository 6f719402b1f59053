"""A run is resumed by its folder alone, from anywhere, with the same data however they are spelt; what does
not go is answered with commands to paste."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.builders import assert_equal_runs, lines
from tlc_jax import study, train
from tlc_jax.config import BudgetConfig, Config, ScheduleConfig
from tlc_jax.core import cli
from tlc_jax.core.config_document import config_names, load_config
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.data import cache
from tlc_jax.runs.facts import facts
from tlc_jax.runs.named_begin import parse_branch
from tlc_jax.runs.other_budget import check_budget
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.train import Train
from tlc_jax.training import loop
from tlc_jax.training.session import Session

CONFIGS = [name for name in config_names() if isinstance(load_config(name, object), Config)]


def resume(workdir: Path, *more: str) -> None:
    train.main(["--workdir", str(workdir), *more])


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch):
    """Runs a command that is killed before the first checkpoint of its run."""

    def train_until_killed(arguments: list[str]) -> None:
        def stop(session: Session) -> None:
            raise Interrupted("killed")

        with monkeypatch.context() as patch:
            patch.setattr(loop, "train", stop)
            with pytest.raises(Interrupted):
                train.main(arguments)

    return train_until_killed


@pytest.mark.slow
def test_a_run_is_resumed_by_its_folder_alone(
    finished: Path, command, killed, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    killed(command(tmp_path / "w"))
    resume(tmp_path / "w", "--log-every", "4")
    assert_equal_runs(finished, tmp_path / "w")
    resume(tmp_path / "w")
    assert "complete: 12 steps" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"seed is 1 but the run has 0\. .* tlc_jax.train --workdir .*/w$"):
        resume(tmp_path / "w", "--seed", "1")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["init_from", "branch_from"])
def test_it_begins_as_its_own_command_said(
    finished: Path, command, killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Also where its source is gone, once it has a checkpoint."""
    source = tmp_path / "source"
    if way == "init_from":
        shutil.copytree(finished, source)
        arguments = command("w", "--init-from", str(source), "--seed", "4")
    else:
        trunk = ["--schedule.warmup", "0.25", "--schedule.cooldown", "0", "--checkpoint.marks", "1/2"]
        train.main(command(source, *trunk))
        arguments = ["--workdir", "w", "--branch-from", f"{source}@1/2"]
    whole, interrupted = ([str(tmp_path / name) if a == "w" else a for a in arguments] for name in "uv")
    train.main(whole)
    killed(interrupted)
    resume(tmp_path / "v")
    assert_equal_runs(tmp_path / "u", tmp_path / "v")
    shutil.rmtree(source)
    monkeypatch.chdir("/")
    resume(tmp_path / "v")
    with pytest.raises(UserError, match="seed is 9 but the run has"):
        resume(tmp_path / "v", "--seed", "9")
    (tmp_path / "v" / "environment.json").unlink()
    with pytest.raises(UserError, match=r"environment.json is missing, which says how the run began"):
        resume(tmp_path / "v")


def test_without_a_run_it_is_said_what_to_give(tmp_path: Path) -> None:
    for workdir in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"holds no run to resume: .* give --config .* or --branch-from"):
            resume(workdir)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and holds no run"):
        resume(tmp_path)


@pytest.mark.slow
def test_the_same_data_are_the_same_however_they_are_spelt(
    command, corpus: Path, killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("text", "copy", "other"):
        shutil.copytree(corpus, tmp_path / name)
    (tmp_path / "link").symlink_to("text")
    (tmp_path / "other" / "more.txt").write_text("One more.\n\nAnd another one.\n")
    caches = str(tmp_path / "cache")

    def arguments(folder: object) -> list[str]:
        return command(tmp_path / "w", "--data.dir", str(folder), "--data.cache-dir", caches)

    monkeypatch.chdir(tmp_path)
    killed(arguments("text/"))
    stored = (tmp_path / "w" / "config.json").read_text()
    assert '"dir": "text/"' in stored
    shutil.rmtree(caches)
    for folder in ("text", "./text", tmp_path / "text", "link", "copy"):
        train.main([*arguments(folder), "--dry-run"])
    monkeypatch.chdir("/")
    train.main([*arguments(tmp_path / "copy"), "--dry-run"])
    remarks = {"other": "what it holds differs from what the run", "nowhere": ".*nowhere does not exist"}
    for name, why in remarks.items():
        with pytest.raises(UserError, match=rf"data.dir is '.*/{name}' but the run has 'text/' \({why}"):
            train.main(arguments(tmp_path / name))
    assert (tmp_path / "w" / "config.json").read_text() == stored
    assert not Path(caches).exists(), "nothing is prepared to be compared"
    killed(arguments(tmp_path / "copy"))


def test_an_identity_is_asked_for_without_preparing(tmp_path: Path) -> None:
    depends_on = {"source": "a"}
    asked = cache.identity_if_prepared(lambda: cache.prepare(str(tmp_path), depends_on, pytest.fail))
    built = cache.prepare(str(tmp_path), depends_on, lambda folder: {"format": 1})
    assert built.name == asked[:20]


def commands(error: pytest.ExceptionInfo) -> list[list[str]]:
    found = re.findall(r"^  python -m tlc_jax\.train (.*)$", str(error.value), re.MULTILINE)
    return [shlex.split(line) for line in found]


@pytest.mark.slow
def test_a_larger_budget_is_answered_with_commands_that_work(finished: Path, command, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    with pytest.raises(UserError, match=r"another budget: budget.steps is 16 but the run has 12\.") as told:
        train.main(command(run, "--budget.steps", "16"))
    longer, trunk, branch = commands(told)
    train.main(longer)
    assert lines(tmp_path / "run-longer")[-1]["step"] == 16
    train.main(trunk)
    train.main(branch)
    assert lines(tmp_path / "run-trunk-1_2")[-1]["step"] == 8
    with pytest.raises(UserError) as told:
        resume(tmp_path / "run-trunk", "--budget.steps", "20")
    new, branch = commands(told)
    assert new[:2] == ["--config", "CONFIG"], "tests are no command that began it"
    assert branch[:2] == ["--branch-from", f"{tmp_path / 'run-trunk'}@1"]
    environment = tmp_path / "run-trunk" / "environment.json"
    for began in (["bin/tlc", "train"], ["tlc_jax/train.py"]):
        environment.write_text(json.dumps({"starts": [{"command": [*began, *trunk]}]}))
        with pytest.raises(UserError) as told:
            resume(tmp_path / "run-trunk", "--budget.steps", "20")
        new, _ = commands(told)
        assert new[:2] == trunk[:2]
        assert new[-6:-2] == ["--budget.steps", "20", "--init-from", str(tmp_path / "run-trunk")]


def test_missing_data_are_said_first(command, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match="data.dir names .*none, which does not exist"):
        train.main(command(tmp_path / "w", "--data.dir", str(tmp_path / "none")))
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "more", [{"steps": 60}, {"training_seconds": 9000.0}, {"steps": 60, "tokens": 10**9}], ids=str
)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_commands_for_another_budget_are_accepted(name: str, more: dict, tmp_path: Path) -> None:
    """Those of each config: as they are pasted, with the branch that leaves the trunk."""
    config = load_config(name, Config)
    run = RunDir(tmp_path / "run")
    run.root.mkdir()
    write_json(run.config, dataclasses.asdict(config))
    given = [word for key, x in more.items() for word in ("--budget." + key.replace("_", "-"), str(x))]
    line = ["--config", name, "--workdir", str(run.root), *given]
    with pytest.raises(UserError, match="holds a run of another budget") as error:
        check_budget(run, cli.parse(Train, line).settings, line)
    longer, *rest = commands(error)
    assert cli.parse(Train, longer).settings.budget == dataclasses.replace(config.budget, **more)
    assert bool(rest) == (config.schedule.noam_steps is None), "a schedule without an end needs no trunk"
    if rest:
        trunk, branch = cli.parse(Train, rest[0]), cli.parse(Train, rest[1])
        folder = RunDir(Path(trunk.workdir))
        folder.root.mkdir()
        write_json(folder.config, dataclasses.asdict(trunk.settings))
        ends = parse_branch(str(branch.branch_from)).resolve(Config()).budget
        whole, follows = trunk.settings.budget, trunk.settings.schedule.follows
        assert getattr(ends, follows) == getattr(whole, follows) / 2
        assert [follows] == [key for key, limit in vars(whole).items() if limit is not None], "it gets there"
        assert getattr(whole, follows) == more.get(follows), "the new limit is what it is stretched over"


@pytest.fixture
def begun(command, corpus: Path, tmp_path: Path) -> Path:
    """A run that has nothing but its config yet."""
    root = tmp_path / "begun"
    root.mkdir()
    write_json(root / "config.json", dataclasses.asdict(cli.parse(Train, command(root)).settings))
    return root


def test_an_artifact_is_no_run(begun: Path) -> None:
    (begun / "manifest.json").touch()
    with pytest.raises(UserError, match="is an artifact, not a run: .* --config CONFIG --init-from .*begun"):
        resume(begun)
    with pytest.raises(UserError, match="is an artifact: give a new folder"):
        study.main(["--workdir", str(begun)])


def test_a_run_is_no_study(begun: Path) -> None:
    with pytest.raises(UserError, match=r"holds a run: .*tlc_jax.train --workdir .*begun resumes it"):
        study.main(["--workdir", str(begun)])


def test_a_run_of_other_data_is_refused_by_its_fields(begun: Path) -> None:
    """Also where the config of the command cannot read a folder."""
    for more in ([], ["--budget.steps", "60", "--schedule.follows", "steps"]):
        with pytest.raises(UserError, match="another config: .*data.name is 'docs' but the run has 'files'"):
            resume(begun, "--config", "quickstart", *more)


def test_data_that_do_not_exist_are_refused_as_such(command, begun: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.dir is .* \(.*/a.tx does not exist\)\. Give a new --workdir"):
        train.main(command(begun, "--data.dir", str(tmp_path / "a.tx")))


def test_environment_json_says_the_same_damaged_and_missing(begun: Path) -> None:
    whole, environment = "run the whole command again that began the run", begun / "environment.json"
    environment.touch()
    with pytest.raises(UserError, match=f"is damaged .*: restore it, or remove it and {whole}"):
        resume(begun)
    environment.unlink()
    with pytest.raises(UserError, match=f"is missing, .*: restore it, or {whole}"):
        resume(begun)


def test_a_schedule_that_the_budget_ends_early_is_mentioned(tmp_path: Path) -> None:
    config = load_config("quickstart", Config)
    both = dataclasses.replace(config, budget=BudgetConfig(steps=30, training_seconds=120))
    noted = facts(both, RunDir(tmp_path), None, {})["note"]
    assert (
        "falls to 0 over 2 min 00 s of training; if 30 updates come first, the run ends before that" in noted
    )
    assert "--schedule.follows steps" in noted
    trunk = dataclasses.replace(both, schedule=ScheduleConfig(follows="training_seconds", cooldown=0))
    for silent in (config, trunk):
        assert "note" not in facts(silent, RunDir(tmp_path), None, {})
