"""The real TPU compiler, where no TPU is: a size of `docs/results/v3_8.md`, and one that does not fit."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="the TPU compiler comes with the extra `tpu`"
)
TABLE = Path(__file__).parent.parent.parent / "docs" / "results" / "v3_8.json"


def compile_for(tmp_path: Path, *options: str) -> tuple[int, dict, str]:
    """Exit code, the result, the output."""
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "tlc_jax.bench", "compile", *options, "--output", str(output)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert not done.stderr
    assert output.exists(), done.stderr
    return done.returncode, json.loads(output.read_text()), done.stdout


def test_what_the_table_says(tmp_path: Path) -> None:
    known = json.loads(TABLE.read_text())["sizes"]["translate-6x128"]
    _, _, *options = known["command"].split()
    code, found, _ = compile_for(tmp_path, *options)
    assert code == 0
    assert found["fits"]
    assert found["devices"] == known["devices"] == "8 x TPU v3"
    assert found["peak_gib"] == pytest.approx(known["peak_gib"], rel=0.05)
    assert found["collectives"][0]["bytes"] == pytest.approx(known["collectives"][0]["bytes"], rel=0.05)
    assert [one["kind"] for one in found["collectives"]] == ["all-reduce"]


def test_a_v4_has_one_device_to_a_chip(tmp_path: Path) -> None:
    """As jax sees it where it runs; libtpu alone would say eight, of which jax makes no mesh."""
    model = ["--model.num-layers", "1", "--model.hidden-size", "64", "--model.vocab-size", "300"]
    code, found, _ = compile_for(tmp_path, "--config", "quickstart", "--topology", "v4:2x2x1", *model)
    assert (code, found["devices"]) == (0, "4 x TPU v4")


def test_what_does_not_fit_ends_with_the_compilers_sentence(tmp_path: Path) -> None:
    options = ["--config", "pretrain", "--topology", "v3:2x2", "--model.compute-dtype", "bfloat16"]
    code, found, output = compile_for(tmp_path, *options, "--model.remat", "none", "--micro-batch", "8192")
    assert code == 1
    assert not found["fits"]
    assert "Ran out of memory on HBM" in found["compiler"]
    assert f"does not fit    {found['compiler']}" in output
