"""Fixtures of studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.untrained import Folder
from tlc_jax.studies import compress_item, train_item


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path)
    monkeypatch.setattr(train_item, "train_run", made.train_run)
    monkeypatch.setattr(compress_item, "load_model", lambda *_, **__: None)
    monkeypatch.setattr(compress_item, "CompressedMeasurer", made.measurer)
    return made
