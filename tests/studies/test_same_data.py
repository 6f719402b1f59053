"""All runs of a study have the same data: what has changed since is refused before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.studies.untrained import COMBINATION, FIRST, SECOND, Folder
from tlc_jax.config import Config, DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.text import installed_docs
from tlc_jax.runs.begin import Fresh
from tlc_jax.studies import train_item
from tlc_jax.studies.same_data import SameData
from tlc_jax.tasks.mlm import MlmKind


def test_a_study_is_resumed_with_the_data_that_it_began_with(folder: Folder) -> None:
    runs = [f"{COMBINATION}-seed1", f"{COMBINATION}-seed2"]
    assert folder.go(f"{SECOND}trained") == [f"{FIRST}{run}" for run in ("trained", *runs)]
    assert folder.go() == [f"{SECOND}{run}" for run in ("trained", *runs)]
    assert folder.go() == []
    results = {result["item"]: result for result in folder.store.results()}
    for stage, run in (("train", "trained"), ("finetune", runs[0])):
        used = {json.dumps(result["data"].get(stage)) for result in results.values()} - {"null"}
        manifest = json.loads((folder.workdir / "runs" / FIRST / run / "data" / "manifest.json").read_text())
        [identity] = {json.loads(text)["identity"] for text in used}
        assert identity == manifest["identity"]
    assert set(results[f"{SECOND}{runs[1]}/4bits-50pruned"]["data"]) == {"train", "finetune"}


@pytest.mark.parametrize(
    ("stop", "change", "words"),
    [
        (
            f"{FIRST}{COMBINATION}-seed2",
            Folder.change_table,
            r"finetuning data .*tables.* have changed since .*seed1 was made: changed content: train.tsv. R",
        ),
        pytest.param(
            f"{SECOND}lr",
            Folder.change_table,
            "finetuning data .* changed content: train.tsv. Restore",
            marks=pytest.mark.slow,
        ),
        (f"{SECOND}trained", Folder.change_text, "training data .*text.* changed content: a.txt"),
        pytest.param(
            f"{SECOND}trained",
            lambda folder: (folder.root / "text" / "b.txt").write_text("More.\n\nText.\n", encoding="utf-8"),
            "training data .* new: b.txt",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            f"{SECOND}trained",
            lambda folder: (folder.root / "text" / "a.txt").rename(folder.root / "text" / "c.txt"),
            "training data .* missing: a.txt; new: c.txt",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_changed_data_are_refused_before_anything_is_trained(
    folder: Folder, stop: str, change: Callable[[Folder], object], words: str
) -> None:
    folder.go(stop)
    before = folder.files()
    kept = {name: folder.root / f"{name}.kept" for name in ("text", "tables")}
    for name, copy in kept.items():
        shutil.copytree(folder.root / name, copy)
    change(folder)
    with pytest.raises(UserError, match=words):
        folder.go()
    assert folder.trained == []
    assert folder.files() == before
    for name, copy in kept.items():  # what the message says is what helps
        shutil.rmtree(folder.root / name)
        copy.rename(folder.root / name)
    assert folder.go()


@pytest.mark.slow
def test_what_no_run_reads_again_may_change(folder: Folder) -> None:
    folder.go(f"{SECOND}lr")
    folder.change_text()  # both sizes are trained
    folder.go()
    folder.change_table()
    assert folder.go() == []


def test_data_that_change_while_a_study_runs_are_noticed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_run(config: Config, workdir: Path, *arguments: Any, **options: Any) -> None:
        folder.train_run(config, workdir, *arguments, **options)
        if workdir.name.endswith("seed1"):
            folder.change_table()

    monkeypatch.setattr(train_item, "train_run", train_run)
    with pytest.raises(UserError, match="changed content: train.tsv"):
        folder.go()
    assert len(folder.trained) == 2


def test_two_processes_that_begin_at_once_prepare_the_same_data(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has looked at the study before the first has prepared anything."""
    begun = SameData(folder.workdir / "data.json")
    folder.go(f"{FIRST}lr")
    config = folder.configs[f"{FIRST}trained"]
    assert begun.prepare("train", config, Fresh(), Console(quiet=True)) is None, "they agree"
    begun = SameData(folder.root / "other" / "data.json")
    shutil.copytree(folder.workdir, folder.root / "other")
    folder.change_text()
    with pytest.raises(UserError, match="have changed since .*data.json was made: changed content: a.txt"):
        begun.prepare("train", config, Fresh(), Console(quiet=True))


@pytest.mark.slow
def test_where_no_run_has_the_data_any_more_they_are_prepared_and_compared(folder: Folder) -> None:
    folder.go(f"{SECOND}trained")
    for run in (folder.workdir / "runs" / FIRST).glob("lr*"):
        shutil.rmtree(run)
    (folder.workdir / "data.json").unlink()
    folder.change_table()
    with pytest.raises(UserError, match="finetuning data .* are prepared as [0-9a-f]{16}, but .*seed1.json"):
        folder.go()
    assert folder.trained == [f"{SECOND}trained"]


def test_results_without_their_runs_still_hold_their_data(folder: Folder) -> None:
    """Who has removed the runs of a size that is done can resume, and is refused other data all the same."""
    folder.go(f"{SECOND}trained")
    shutil.rmtree(folder.workdir / "runs" / "1x16")
    (folder.workdir / "data.json").unlink()
    folder.change_text()
    with pytest.raises(UserError, match="training data .* are prepared as .* but .*trained.json was made"):
        folder.go()
    assert folder.trained == []


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "run"), [("train", "trained"), ("finetune", "lr*-seed1")])
def test_a_run_of_other_data_in_the_place_of_its_own_is_refused(
    folder: Folder, stage: str, run: str, tmp_path: Path
) -> None:
    folder.go(f"{SECOND}lr")
    workdir, folder.workdir = folder.workdir, tmp_path / "other"
    (folder.change_text if stage == "train" else folder.change_table)()
    folder.go(f"{SECOND}lr")
    folder.workdir = workdir
    [mine] = (workdir / "runs" / FIRST).glob(run)
    shutil.rmtree(mine)
    shutil.copytree(tmp_path / "other" / "runs" / FIRST / mine.name, mine)
    with pytest.raises(UserError, match="were made with different"):
        folder.go()
    assert folder.trained == []


def test_upgraded_packages_are_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data that are made of the documentation that is installed here."""
    module = tmp_path / "numpy.py"
    module.write_text('"""Version 1."""', encoding="utf-8")
    modules = [("numpy/a.py", module), ("numpy/b.py", module)]
    monkeypatch.setattr(installed_docs, "package_modules", lambda root: iter(modules))
    config, console = Config(data=DataConfig(name="docs")), Console(quiet=True)
    same_data = SameData(tmp_path / "data.json")
    identity = {"identity": "1" * 64, "tokenizer": "2" * 64}

    class Prepared:
        manifest = identity

    monkeypatch.setattr(MlmKind, "prepare", lambda kind, config, console, **_: Prepared)
    same_data.prepare("train", config, Fresh(), console)
    same_data.meet("runs/2x64/seed0/trained", {"train": identity})  # type: ignore[dict-item]
    same_data.check_sources("train", config)
    again = SameData(tmp_path / "data.json")
    again.meet("runs/2x64/seed0/trained", {"train": identity})  # type: ignore[dict-item]
    module.write_text('"""Version 2."""', encoding="utf-8")
    words = "data .documentation of .* changed since runs/2x64/seed0/trained .*: numpy/a.py, numpy/b"
    with pytest.raises(UserError, match=words):
        again.check_sources("train", config)
