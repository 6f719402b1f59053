"""Errors of compression by module, against plain numpy; and the report that prints them."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import builders
from tlc_jax import report, train
from tlc_jax.core.errors import UserError
from tlc_jax.studies import errors_report
from tlc_jax.studies.rows import Results


@pytest.fixture(scope="module")
def results(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The lines that `report errors` writes for 3 bits and a sparsity of one half, with evaluations."""
    folder = tmp_path_factory.mktemp("errors")
    run, picture = shutil.copytree(finished, folder / "run"), folder / "errors.png"
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    config["evaluation"]["max_rows"] = 16  # of 64, for each of 108 choices
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    options = ["--bits", "3", "--sparsity", "0.5", "--output", str(picture), "--evaluate"]
    report.main(["errors", "--run", str(run), *options])
    assert picture.read_bytes().startswith(b"\x89PNG")
    return [json.loads(line) for line in picture.with_suffix(".jsonl").read_text().splitlines()]


def matrices(finished: Path) -> dict[str, np.ndarray]:
    """One a layer, in float64."""
    found = {}
    for path, x in builders.parameters(finished).items():
        layers = x if "layers" in path else x[None]
        found |= {(path, i): layer.astype(np.float64) for i, layer in enumerate(layers) if layer.ndim == 2}
    return found


@pytest.mark.slow
def test_pruning_errors_by_module(finished: Path, results: list[dict]) -> None:
    own = matrices(finished)
    everything = np.sort(np.concatenate([np.abs(x).ravel() for x in own.values()]))
    limit = everything[round(0.5 * everything.size) - 1]
    lines = {line["module"]: line for line in results if line["kind"] == "prune" and not line["untrained"]}
    assert lines.keys() == {path for path, _ in own} | {"all matrices"}
    for path, line in lines.items():
        layers = [x for (name, _), x in own.items() if path in (name, "all matrices")]
        gone = [np.where(np.abs(x) <= limit, np.abs(x), 0.0) for x in layers]
        absolute = [x.mean() for x in gone]
        relative = [np.linalg.norm(g) / np.linalg.norm(x) for g, x in zip(gone, layers, strict=True)]
        assert line["tensors"] == len(layers)
        for key, values in (("absolute", absolute), ("relative", relative)):
            assert line[f"{key}_mean"] == pytest.approx(np.mean(values), rel=1e-4)
            assert line[f"{key}_variance"] == pytest.approx(np.var(values), rel=1e-2, abs=1e-12)


@pytest.mark.slow
def test_quantization_errors_by_module(finished: Path, results: list[dict]) -> None:
    """The paper's quantizer (4.2): 3 bits between the smallest and the largest weight; zero has no code."""
    own = matrices(finished)
    fields = {"kind": "quantize", "range": "minmax", "untrained": False}
    lines = {r["module"]: r for r in results if fields.items() <= r.items()}
    for path in {path for path, _ in own}:
        errors = []
        for x in (x for (name, _), x in own.items() if name == path):
            delta = (x.max() - x.min()) / 7
            errors.append(np.abs(delta * np.round((x - x.min()) / delta) + x.min() - x).mean())
        assert lines[path]["zero"] == "float"
        assert lines[path]["absolute_mean"] == pytest.approx(np.mean(errors), rel=1e-3)


@pytest.mark.slow
def test_the_control_is_the_network_before_its_first_update(
    command, finished: Path, results: list[dict], tmp_path: Path
) -> None:
    """That of a run which ends before it, since its target is reached at once."""
    train.main(command(tmp_path / "begun", "--evaluation.stop-at", "1000"))
    begun = builders.parameters(tmp_path / "begun")
    fields = {"kind": "quantize", "range": "minmax", "untrained": True}
    lines = {r["module"]: r for r in results if fields.items() <= r.items()}
    same = 0
    for path, _ in matrices(finished):
        layers = begun[path] if "layers" in path else begun[path][None]
        errors = []
        for x in layers.astype(np.float64):
            delta = (x.max() - x.min()) / 7
            errors.append(np.abs(delta * np.round((x - x.min()) / delta) + x.min() - x).mean())
        assert lines[path]["absolute_mean"] == pytest.approx(np.mean(errors), rel=1e-3)
        same += 1
    assert same > 5


def test_what_is_left_after_the_control_is_taken_away() -> None:
    """Errors that halve from the first model to the last, in networks before training too: nothing is left.
    Those of pruning halve only in trained networks."""
    rows = []
    for kind, how in (("quantize", "minmax"), ("quantize", "mse"), ("prune", None)):
        for run, untrained in itertools.product(("2x8", "2x16", "2x32"), (False, True)):
            size = {"2x8": 4.0, "2x16": 3.0, "2x32": 2.0}[run]
            mean = 4.0 if untrained and kind == "prune" else size
            row = {"kind": kind, "run": run, "model": run, "module": "all matrices", "untrained": untrained}
            row |= {"bits": 4, "zero": "float", "sparsity": 0.6, "absolute_mean": mean, "relative_mean": 1.0}
            rows.append(row if how is None else {**row, "range": how})
    said = list(errors_report.sentences(Results(rows)))
    assert len(said) == 6
    assert said[0] == (
        "quantized to 4 bits, range minmax, zero float (paper): |v - w| of 2x32 is 0.50 of that of 2x8, and "
        "before training 0.50; a factor of 1.00 is left to training"
    )
    assert said[4].endswith(
        "is 0.50 of that of 2x8, and before training 1.00; a factor of 0.50 is left to training"
    )
    assert not list(errors_report.sentences(Results(rows[:2]))), "one model has no trend"


@pytest.mark.slow
def test_better_ranges_cost_nothing_and_smaller_blocks_do(results: list[dict]) -> None:
    keys = ("granularity", "range", "zero", "bits")
    grid = {tuple(r[key] for key in keys): r for r in results if r["kind"] == "grid"}
    assert len(grid) == 3 * 3 * 2 * 6
    for zero, bits in itertools.product(("float", "nudged"), (2, 4, 8)):
        plain, best = (grid["tensor", how, zero, bits] for how in ("minmax", "mse"))
        assert best["format_bytes"] == plain["format_bytes"]
        assert best["relative_error"] <= plain["relative_error"]
        row = grid["row", "minmax", zero, bits]
        assert row["format_bytes"] > plain["format_bytes"]
        assert row["relative_error"] < plain["relative_error"]


@pytest.mark.slow
def test_each_choice_is_evaluated_if_asked(results: list[dict]) -> None:
    grid = {(r["granularity"], r["range"], r["bits"]): r for r in results if r["kind"] == "grid"}
    assert grid["tensor", "mse", 8]["eval/held_out/loss"] != grid["tensor", "mse", 2]["eval/held_out/loss"]
    setting = {"granularity": "row", "range": "mse", "bits": 2}
    two = [r for r in results if setting.items() <= r.items()]
    assert len({r["eval/held_out/loss"] for r in two}) == 2, "with and without a code for zero"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--bits", "9", "1 to 8"), ("--sparsity", "1", "between 0 and 1")],
)
def test_wrong_options(finished: Path, option: str, value: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        report.main(["errors", "--run", str(finished), option, value])


def test_a_picture_that_cannot_be_written_is_told_before_the_work(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors_report, "measure_errors", lambda *arguments: pytest.fail("it was measured"))
    (tmp_path / "taken.jsonl").mkdir()
    (tmp_path / "file").touch()
    wrong = {
        "x.bmp2": "is not a picture format",
        "x.pgf": "is not a picture format",
        "x": "is not a picture format",
        "taken.png": r"taken\.jsonl is a folder",
        "file/x.png": "cannot be made",
    }
    for name, said in wrong.items():
        with pytest.raises(UserError, match=said):
            report.main(["errors", "--run", str(finished), "--output", str(tmp_path / name)])


def test_numbers_of_before_stay_until_there_are_others(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "errors.jsonl").write_text("{}\n", encoding="utf-8")
    options = ["--output", str(tmp_path / "errors.png")]
    with pytest.raises(UserError, match="neither a run directory nor an artifact"):
        report.main(["errors", "--run", str(finished / "none"), *options])
    assert (tmp_path / "errors.jsonl").read_text(encoding="utf-8") == "{}\n"
