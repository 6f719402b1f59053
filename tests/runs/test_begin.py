"""What a run may begin from, and what is refused before anything is loaded or printed."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.golden import make_d21cde9 as old
from tlc_jax.config import Config, ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.runs.begin import Fresh, InitFrom
from tlc_jax.runs.load import load_model
from tlc_jax.runs.open_run import open_run
from tlc_jax.storage.lock import locked
from tlc_jax.storage.run_directory import RunDir, write_json
from tlc_jax.storage.sealed import seal

SOURCE = Config(model=ModelConfig(num_layers=3, hidden_size=64, vocab_size=300))


@pytest.fixture
def source(tmp_path: Path) -> RunDir:
    """A run of which steps 4 and 8 are saved, step 8 for the mark 1/2."""
    rundir = RunDir(tmp_path / "run")
    for step, marks in ((4, []), (8, ["1/2"])):
        folder = rundir.checkpoints / str(step)
        folder.mkdir(parents=True)
        seal(folder, {"step": step, "marks": marks})
    write_json(rundir.config, dataclasses.asdict(SOURCE))
    return rundir


@pytest.mark.parametrize("which", ["", "@1/2", "@last2"])
def test_a_run_begins_from_what_the_loader_takes(source: RunDir, which: str) -> None:
    begin = InitFrom(f"{source.root}{which}")
    begin.check()
    config = begin.resolve(Config())
    assert config.model == SOURCE.model
    assert config.data.tokenizer == str(source.tokenizer)
    assert begin.record()["init_from"] == f"{source.root}{which}"


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("@1/4", r"run/checkpoints holds no mark 1/4: it has 1/2$"),
        ("@last3", r"run/checkpoints holds 2 checkpoints, not 3: .* or take @last2$"),
        ("/none", r"run/none is neither a run directory nor an artifact: it has no config.json$"),
    ],
)
def test_what_is_not_there_is_refused_by_name(source: RunDir, which: str, says: str) -> None:
    begin = InitFrom(f"{source.root}{which}")
    with pytest.raises(UserError, match=says):
        begin.check()


def test_a_run_that_has_saved_nothing_is_refused(source: RunDir) -> None:
    source.checkpoints.rename(source.root / "elsewhere")
    with pytest.raises(UserError, match="holds no checkpoint: give the folder of a run that has saved one"):
        InitFrom(str(source.root)).check()


def test_a_second_process_prints_nothing_before_it_is_refused(source: RunDir) -> None:
    source.metrics.touch()
    console = Console(record=True, file=io.StringIO())
    refused = pytest.raises(UserError, match="run is in use by")
    with locked(source.root), refused, open_run(SOURCE, source.root, Fresh(), console):
        pass
    assert console.export_text() == ""


def test_an_artifact_has_no_marks(tmp_path: Path) -> None:
    artifact = old.unpacked(tmp_path / "work") / "artifacts" / "encoder-rows"
    with pytest.raises(UserError, match="an artifact holds one model and has no marks: give .*encoder-rows$"):
        load_model(f"{artifact}@1/2")
