"""Artifacts are written byte for byte as at commit ff6570d (tests/golden/make_artifacts.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden import make_artifacts

pytestmark = pytest.mark.slow

GOLDEN = json.loads(Path(make_artifacts.__file__).with_name("artifacts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", make_artifacts.CASES)
def test_a_checkpoint_has_the_same_bytes(case: str, tmp_path: Path) -> None:
    assert make_artifacts.written(case, tmp_path) == GOLDEN[case]


@pytest.mark.parametrize("name", make_artifacts.RUNS)
def test_a_run_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    assert make_artifacts.written_of_run(name, tmp_path) == GOLDEN[name]
