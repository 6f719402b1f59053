"""A run is resumed by its folder alone, from anywhere, with the same data however they are spelt; what does
not go is answered with commands to paste."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.builders import assert_equal_runs, lines
from tlc_jax import train
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.data import cache
from tlc_jax.training import loop
from tlc_jax.training.session import Session


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
    for name in ("other", "nowhere"):
        with pytest.raises(UserError, match=rf"data.dir is '.*/{name}' but the run has 'text/'"):
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
