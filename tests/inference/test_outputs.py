"""Where results go: a file that cannot be written is named before the work, and what a command prints arrives
or is said not to."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builders import CONFIG
from tlc_jax import bench, report
from tlc_jax.core.errors import UserError
from tlc_jax.inference.describe import TensorDifference, differences_table
from tlc_jax.runs import step_time
from tlc_jax.storage import writable
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies import curves, sensitivity_report
from tlc_jax.studies.curves import Curve, draw_curves


@pytest.fixture
def unwritable(tmp_path: Path) -> dict[str, str]:
    """Paths where no file can be written, and what is said of each."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo.png")
    paths = {"folder.png": "is a folder: name a file", "file/x.png": "the folder .*file cannot be made"}
    paths |= {"fifo.png": "is not a regular file", "/dev/null": "/dev/null is not a regular file"}
    return {str(tmp_path / name): said for name, said in paths.items()}


def fail(*arguments: Any, **options: Any) -> None:
    pytest.fail("the work was done")


def test_outputs_are_looked_at_before_the_work(
    unwritable: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_time, "measure_step_time", fail)
    monkeypatch.setattr(curves, "read_curves", fail)
    monkeypatch.setattr(sensitivity_report, "load_model", fail)
    config = tmp_path / "tiny.py"
    config.write_text(CONFIG, encoding="utf-8")
    for path, said in unwritable.items():
        with pytest.raises(UserError, match=said):
            bench.main(["step-time", "--config", str(config), "--output", path])
        with pytest.raises(UserError, match=said):
            bench.main(["compile", "--config", str(config), "--topology", "v3:2x2", "--output", path])
        with pytest.raises(UserError, match=said):
            report.main(["sensitivity", "--run", "run", "--output", path])
        with pytest.raises(UserError, match=said if path != "/dev/null" else "is not a picture format"):
            report.main(["curves", "--run", "run", "--output", path])


def test_a_file_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writable.os, "access", lambda path, how: False)  # root may do all
    with pytest.raises(UserError, match="--output .*/new/x cannot be written .Permission denied at .*/new"):
        check_writable(tmp_path / "new" / "x", "--output")


@pytest.mark.parametrize("name", ["$x$_1^", "_hidden", "a\x1b[31m", "ü \\frac{", "$", "a\nb"])
def test_names_of_runs_are_labels_as_they_are(name: str, tmp_path: Path) -> None:
    one = Curve(name, "held_out/perplexity", (1.0, 2.0), (9.0, 8.0))
    other = Curve("other", f"{name}/perplexity", (1.0, 2.0), (9.0, 8.0))
    draw_curves([one, other], False, tmp_path / "x.svg")
    draw_curves([other], True, tmp_path / "y.PNG")
    assert (tmp_path / "y.PNG").read_bytes().startswith(b"\x89PNG")
    if name == "_hidden":
        assert (tmp_path / "x.svg").read_text(encoding="utf-8").count("<!-- ") > 10


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not a timing file"),
        (b"[1]", "is not a timing file .*not .1"),
        (b'{"mean_seconds": "3"}', "mean_seconds: input should be a valid number"),
        (b'{"mean_seconds": NaN}', "NaN is no number"),
        (b'{"mean_seconds": -1}', "greater than 0"),
        (b'{"mean_seconds": true}', "mean_seconds: input should be a valid number"),
        (b"{}", "mean_seconds: field required"),
        (b"\xff", "utf-8"),
        (b"[" * 100_000, "nested too deeply"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_timing_files(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "step_time.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        curves.read_curves([], [path])
    assert f"--step-time {path} is not a timing file (" in str(error.value)


def metrics(*lines: str) -> Callable[[Path], object]:
    return lambda path: path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


LINE = '{"step": 1, "training_seconds": 1.0, "total_seconds": 1.0'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (metrics("garbage"), "line 1 is not a line of metrics"),
        (metrics("[]"), "line 1 is not a line of metrics"),
        (metrics('{"step": 1}'), "line 1 is not a line of metrics"),
        (metrics(LINE + ', "eval/held_out/perplexity": "9"}'), "line 1 is not a line of metrics"),
        (metrics(LINE + "}"), "has no evaluation yet"),
        (lambda path: path.unlink(), "has no evaluation yet"),
        (lambda path: path.write_bytes(b"\xff\xfe\n"), "line 1 is not a line of metrics"),
    ],
)
def test_curves_of_damaged_metrics(
    finished: Path, damage: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_bytes((finished / "config.json").read_bytes())
    (run / "metrics.jsonl").write_bytes((finished / "metrics.jsonl").read_bytes())
    assert curves.read_curves([run], [])[0].values
    damage(RunDir(run).metrics)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        curves.read_curves([run], [])


DIFF = """
import sys
from tlc_jax import diff
from tlc_jax.core.entry_point import run_command
from tlc_jax.inference import describe
from tlc_jax.inference.describe import TensorDifference
many = [TensorDifference(f"tensor{i}", float("nan"), 1.0, None) for i in range(100_000)]
describe.tensor_differences = lambda one, other: many
run_command(lambda: diff.main(["a", "b", "--json"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pipe", "code", "said"),
    [("| head -n 1", 0, ""), ("> /dev/full", 2, "No space left"), (">&-", 2, "it is closed")],
)
def test_what_diff_prints_arrives_or_is_said_not_to(pipe: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "diff.py").write_text(DIFF, encoding="utf-8")
    command = f"set -o pipefail; {sys.executable} {tmp_path / 'diff.py'} {pipe}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (found.returncode, "Traceback" in found.stderr) == (code, False), found.stderr
    assert said in found.stderr
    if not code:
        expected = dataclasses.asdict(TensorDifference("tensor0", 0.0, 1.0, None))
        assert json.loads(found.stdout, parse_constant=pytest.fail) == {**expected, "relative": None}


def test_weights_that_are_not_finite_are_a_difference() -> None:
    nan = float("nan")
    found = [TensorDifference("a", 0.0, 0.0, None), TensorDifference("b", nan, nan, None)]
    assert differences_table(found).caption == "1 of 2 tensors differ"
