"""Artifacts are written byte for byte as at commit ff6570d (tests/golden/make_artifacts.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden import make_artifacts


@pytest.mark.parametrize("case", make_artifacts.CASES)
def test_the_bytes_are_those_of_before(case: str, tmp_path: Path) -> None:
    golden = json.loads(Path(make_artifacts.__file__).with_name("artifacts.json").read_text(encoding="utf-8"))
    assert make_artifacts.written(case, tmp_path) == golden[case]
