"""What compress says of what it did: errors, the worst tensors, metrics of runs, warnings; its defaults."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tlc_jax import compress, evaluate
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.compression.steps import Step
from tlc_jax.config.compression import OF_FOLDERS
from tlc_jax.config.quantization import Rule
from tlc_jax.core import command_line, stopping
from tlc_jax.core.errors import Interrupted, UserError

Capture = pytest.CaptureFixture[str]
SHAPES = {
    "word.weight": (40, 64),
    "dense.weight": (48, 128),
    "odd.weight": (6, 50),
    "dense.bias": (48,),
    "norm.weight": (64,),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hf")
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_t(3, shape).astype(np.float32) for name, shape in SHAPES.items()}
    safetensors.numpy.save_file(arrays, root / "model.safetensors")
    return root


def compressed(folder: Path, out: Path, *options: str) -> Path:
    compress.main(["--hf", str(folder), *options, "--out", str(out)])
    return out


@pytest.mark.slow
def test_defaults_of_a_folder(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    found = read_artifact(compressed(folder, tmp_path / "out", "--bits", "4"))
    recorded = found.manifest["compression"]
    assert recorded == dataclasses.replace(OF_FOLDERS, bits=4).recorded()
    specs = {name: entry.get("granularity") for name, entry in found.manifest["tensors"].items()}
    groups = dict.fromkeys(("word.weight", "dense.weight"), "group:64")
    assert specs == {**groups, "odd.weight": "row", "dense.bias": None, "norm.weight": None}
    said = capsys.readouterr().out
    assert "one range per row, since groups do not divide their rows: odd.weight" in said
    assert "warning" not in said


@pytest.mark.slow
def test_options_and_documents_win(folder: Path, tmp_path: Path) -> None:
    cases = {
        "options": ["--granularity", "tensor", "--range=minmax", "--no-matrices-only"],
        "again": ["--granularity", "row", "--range", "mse", "--matrices-only"],
        "document": ["--config", str(tmp_path / "recipe.py")],
    }
    (tmp_path / "recipe.py").write_text(
        "from tlc_jax.config.compression import CompressConfig\n"
        "def get_config(): return CompressConfig(bits=5)\n",
        encoding="utf-8",
    )
    expected = {
        "options": ("tensor", "minmax", False),
        "again": ("row", "mse", True),
        "document": ("tensor", "minmax", False),
    }
    for name, options in cases.items():
        manifest = read_artifact(compressed(folder, tmp_path / name, *options)).manifest
        recorded = manifest["compression"]
        assert (recorded["granularity"], recorded["range"], recorded["matrices_only"]) == expected[name]
        assert manifest["tensors"]["norm.weight"]["bits"] == (32 if expected[name][2] else recorded["bits"])


@pytest.mark.slow
def test_errors_are_those_of_numpy(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    out = compressed(folder, tmp_path / "out", "--bits", "3", "--sparsity", "0.4")
    said = capsys.readouterr().out
    source = safetensors.numpy.load_file(folder / "model.safetensors")
    found = {name: np.asarray(x.dense(), np.float64) for name, x in read_artifact(out).tensors.items()}
    change = {name: ((found[name] - x) ** 2).sum() for name, x in source.items()}
    whole = np.sqrt(sum(change.values()) / sum((x.astype(np.float64) ** 2).sum() for x in source.values()))
    assert f"root mean square): {whole:.4f}; the largest" in said
    assert read_artifact(out).manifest["relative_error"] == pytest.approx(whole, rel=1e-6)
    own = {name: np.sqrt(change[name]) / np.linalg.norm(source[name]) for name in source}
    worst = sorted((name for name in own if own[name]), key=lambda name: -own[name])
    assert re.findall(r"  (\d\.\d{4})  (\S+)", said) == [(f"{own[name]:.4f}", name) for name in worst]
    assert len(worst) == 3


def test_nothing_lost_is_reported_as_such(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    compressed(folder, tmp_path / "out", "--bits", "32")
    assert "every weight is unchanged" in capsys.readouterr().out


def test_one_range_a_tensor_is_warned_of_with_a_better_command(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    coarse = ["--granularity=tensor", "--no-matrices-only", "--range", "minmax"]
    compressed(folder, tmp_path / "8", *coarse)
    assert "warning" not in capsys.readouterr().out
    compressed(folder, tmp_path / "a b", "--bits", "4", *coarse)
    said = capsys.readouterr().out
    assert "warning: below 8 bits one range per tensor loses much" in said
    (line,) = re.findall("^  python -m tlc_jax.compress (.*)$", said, re.MULTILINE)
    compress.main(shlex.split(line))
    better, first = (read_artifact(tmp_path / name).manifest for name in ("a b-group64", "a b"))
    assert better["compression"]["granularity"] == "group:64"
    assert better["relative_error"] < 0.5 * first["relative_error"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--hf x --bits 4 --out o", "--hf x --bits 4 --range mse --flag"),
        ("--range=minmax --hf x --no-flag --out=o", "--hf x --range mse --flag"),
        ("--range minmax --flag --hf 'a b'", "--hf 'a b' --range mse --flag"),
    ],
)
def test_a_command_line_with_other_options(line: str, expected: str) -> None:
    changed = command_line.changed(shlex.split(line), {"--range": "mse", "--flag": None, "--out": "o2"})
    assert changed == f"{expected} --out o2"


# --- runs --------------------------------------------------------------------------------------------


def metrics_in(said: str) -> dict[str, tuple[float, float]]:
    """By metric, before and after: the block of lines below a heading."""
    block = re.search(r"^quality +before +after\n((?:  .*\n)+)", said, re.MULTILINE)
    assert block is not None
    found = re.findall(r"^  held_out (\w+) +(\S+) +(\S+)$", block[1], re.MULTILINE)
    return {name: (float(before), float(after)) for name, before, after in found}


@pytest.mark.slow
def test_a_run_is_measured_before_and_after(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ["--bits", "2", "--sparsity", "0.5"]
    compress.main(["--checkpoint", str(finished), *options, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    found = metrics_in(said)
    assert {*found} == {"loss", "perplexity", "accuracy", "nats_per_byte"}
    assert next(iter(found)) == "nats_per_byte", "the primary metric"
    evaluate.main(["--checkpoint", str(finished), "--json"])
    before = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name, (value, _) in found.items():
        assert value == pytest.approx(before[f"eval/held_out/{name}"], rel=2e-3)
    assert found["loss"][0] != found["loss"][1]
    assert "warning: below 8 bits one range per tensor" in said


@pytest.mark.slow
def test_what_cannot_be_measured_is_said(finished: Path, tmp_path: Path, capsys: Capture) -> None:
    moved = shutil.copytree(finished, tmp_path / "moved")
    shutil.rmtree(moved / "data")
    compress.main(["--checkpoint", str(moved), "--out", str(tmp_path / "one")])
    assert "not evaluated before and after compression: " in capsys.readouterr().out
    compress.main(["--checkpoint", str(tmp_path / "one"), "--bits", "4", "--out", str(tmp_path / "two")])
    assert "is an artifact and has no data to evaluate on" in capsys.readouterr().out
    same = [read_artifact(tmp_path / "one").manifest["tensors"]]
    compress.main(["--checkpoint", str(finished), "--out", str(tmp_path / "three")])
    assert read_artifact(tmp_path / "three").manifest["tensors"] == same[0]


# --- stopping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--sparsity", "0.5"], ["--target-mb", "0.01"]])
def test_a_request_to_stop_is_obeyed_anywhere(
    options: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0
    check = stopping.check

    def count() -> None:
        nonlocal left
        left -= 1
        monkeypatch.setattr(stopping, "_requested", left <= 0)
        check()

    monkeypatch.setattr(stopping, "check", count)
    for left in (1, 5, 12):  # noqa: B007
        with pytest.raises(Interrupted):
            compressed(folder, tmp_path / "out", *options)
        monkeypatch.setattr(stopping, "_requested", False)
        assert not (tmp_path / "out").exists()


@dataclasses.dataclass(frozen=True)
class OnlyMatrices(Step):
    """A step that leaves vectors alone, and says so."""

    def undone(self, name: str, tensor: Any, rule: Rule, mask: Any) -> str:
        return "" if rule.prune else "no matrix"


def test_what_a_step_does_not_do_is_printed(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "recipe.py").write_text(
        "from tests.recipes.test_fidelity import OnlyMatrices\nfrom tlc_jax.config import CompressConfig\n\n"
        "def get_config():\n    return CompressConfig(steps=(OnlyMatrices(),))\n"
    )
    compressed(folder, tmp_path / "out", "--config", str(tmp_path / "recipe.py"))
    said = capsys.readouterr().out
    assert "no matrix: dense.bias, norm.weight\n" in said
    assert read_artifact(tmp_path / "out").manifest["tensors"]["dense.bias"]["why"].endswith("; no matrix")


RECIPE = """
from tlc_jax.compression.methods import Quantize
from tlc_jax.config import CompressConfig
from tlc_jax.config.quantization import QuantSpec, Rule


def get_config():
    return CompressConfig({options})
"""


def test_a_step_with_nothing_left_to_it_is_named(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    """The manifest has the recipe, and warnings are about the tensors, not about the options."""
    document = tmp_path / "recipe.py"
    document.write_text(RECIPE.format(options="bits=4, steps=(Quantize(QuantSpec(8)),)"))
    manifest = read_artifact(compressed(folder, tmp_path / "8", "--config", str(document))).manifest
    assert {entry["bits"] for entry in manifest["tensors"].values()} == {8}
    assert [(step["step"], step["spec"]["bits"]) for step in manifest["recipe"]] == [
        ("Quantize", 8),
        ("Quantize", 4),
    ]
    said = capsys.readouterr().out
    assert "step 2 of the recipe's 2, Quantize, did nothing: it found no tensor to work on" in said
    assert "warning" not in said
    document.write_text(RECIPE.format(options="rules=(Rule('.*', QuantSpec(8)),), sparsity=0.5"))
    compressed(folder, tmp_path / "kept", "--config", str(document))
    said = capsys.readouterr().out
    assert "step 2 of the recipe's 3, PruneMagnitude, did nothing" in said, "no rule lets it prune"
    document.write_text(RECIPE.format(options="rules=(Rule('w.*', QuantSpec(3)),)"))
    manifest = read_artifact(compressed(folder, tmp_path / "3", "--config", str(document))).manifest
    assert {name: entry["bits"] for name, entry in manifest["tensors"].items() if entry["bits"] != 8} == {
        "word.weight": 3
    }
    said = capsys.readouterr().out
    assert "did nothing" not in said
    assert '  QuantSpec(3, "group:64", "mse") in the rules or steps of --config' in said


def test_nothing_is_said_of_what_is_refused(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    coarse = ["--bits", "2", "--granularity", "tensor", "--out", str(tmp_path / "out")]
    for wrong in (["--workdir", str(tmp_path / "rounds")], ["--heads", "1"], ["--target-mb", "0.0001"]):
        with pytest.raises(UserError):
            compress.main(["--hf", str(folder), *coarse, *wrong])
    assert "warning" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_group_that_divides_nothing_is_a_row_for_runs_too(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    compress.main(["--checkpoint", str(finished), "--granularity", "group:7", "--out", str(tmp_path / "out")])
    assert "one range per row, since groups do not divide their rows" in capsys.readouterr().out
    entries = read_artifact(tmp_path / "out").manifest["tensors"].values()
    assert {entry["granularity"] for entry in entries if len(entry["shape"]) == 2} == {"row"}
    with pytest.raises(UserError, match="granularity must be tensor, row or group:N"):
        compress.main(
            ["--checkpoint", str(finished), "--granularity", "group:0", "--out", str(tmp_path / "no")]
        )
