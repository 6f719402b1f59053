"""Fixtures of studies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.studies.untrained import Folder
from tlc_jax.config import Config
from tlc_jax.runs.load import TrainedModel
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies import comparison, compress_item, train_item


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of prepared data: most studies here have the same."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A study that trains and draws nothing."""
    made = Folder(tmp_path, cache_dir)
    monkeypatch.setattr(comparison, "save_pictures", lambda shown, path: {})
    monkeypatch.setattr(comparison, "write_page", lambda folders, path: SimpleNamespace(answers=[]))
    monkeypatch.setattr(train_item, "train_run", made.train_run)
    model = TrainedModel(RunDir(tmp_path), Config(), {}, 0, (), {})
    monkeypatch.setattr(compress_item, "load_model", lambda *_, **__: model)
    monkeypatch.setattr(compress_item, "CompressedMeasurer", made.measurer)
    return made
