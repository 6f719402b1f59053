"""A run directory knows its run, and refuses other configs and other folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tlc_jax.config import Config
from tlc_jax.core.config_document import load_config
from tlc_jax.core.errors import UserError
from tlc_jax.storage.run_directory import RunDir, write_json


def test_a_run_directory_of_another_config(tmp_path: Path) -> None:
    config = load_config("quickstart", Config)
    rundir = RunDir(tmp_path / "run")
    assert not rundir.exists()
    rundir.root.mkdir()
    write_json(rundir.config, dataclasses.asdict(config))
    assert rundir.exists()
    assert rundir.read_config() == config
    rundir.check_same(dataclasses.replace(config, log_every=1))
    other = dataclasses.replace(config, seed=5, model=dataclasses.replace(config.model, num_layers=9))
    with pytest.raises(
        UserError, match=r"model.num_layers is 9 but the run has 2; seed is 5 but the run has 0"
    ):
        rundir.check_same(other)
    rundir.config.write_text('{"model": {}}')
    with pytest.raises(UserError, match="not the config of a run"):
        rundir.read_config()


def test_a_foreign_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty and holds no run"):
        RunDir(tmp_path).exists()
