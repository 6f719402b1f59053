"""A short run of the fuzzer: every mutated folder is read, or refused in a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_mutated_folders_are_read_or_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--quick", "--mutations", "24", "--output"]
    done = subprocess.run(
        [*command, str(tmp_path / "fuzz.json")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    targets = json.loads((tmp_path / "fuzz.json").read_text(encoding="utf-8"))["targets"]
    assert sum(target["mutations"] for target in targets.values()) == 24
    codes = [code for target in targets.values() for code in target["exit codes"]]
    assert set(codes) == {"0", "2"}, "some are harmless, and some are not"
