"""Fixtures of studies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies.untrained import Folder, measured
from tlc_jax.studies import finished, grid


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    found = Folder(tmp_path)
    monkeypatch.setattr(grid, "train_run", found.train_run)
    monkeypatch.setattr(grid, "measure_compressed", measured)
    monkeypatch.setattr(finished, "whole_steps", lambda folder: [4])
    return found
