"""Run directories and artifacts that commit d21cde9 wrote are what they were: the same bits of every state
and of every compressed model, the same evaluation, and the same ten updates when a run is resumed.

tests/golden/make_d21cde9.py made them; benchmarks/old_runs.py compares updates bit for bit, which takes one
machine for both.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.golden import make_d21cde9 as old

# what of the package this file knows besides commands
from tlc_jax import evaluate, train
from tlc_jax.runs.checkpoint import restore_state
from tlc_jax.runs.load import load_model
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.metrics import read_metrics
from tlc_jax.training.state import abstract_state

GOLDEN = json.loads((old.FOLDER / "golden.json").read_text())


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them in a new folder, where a user works who has nothing else."""
    old.unpacked(tmp_path / "work")
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def state(name: str) -> Any:
    model = load_model(name, warn=pytest.fail)
    config, rundir = model.config, model.rundir
    task = kind_of(config).task(config, kind_of(config).open(config, rundir.data))
    like, _ = abstract_state(task, config.optimizer, model.mesh, model.masks)
    restored = restore_state(rundir.checkpoints, like)
    assert restored is not None
    assert not restored.refused
    return restored.state


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    evaluate.main(["--json", "--checkpoint", *arguments])
    found = json.loads(capsys.readouterr().out)
    assert found.pop("checkpoint") == arguments[0]
    return found


COUNT_MODELS = ("two_sided_bigram", "target_bigram")
ADDED = {"nats_per_byte", *(f"{x}_{y}" for x in COUNT_MODELS for y in ("nats_per_byte", "perplexity"))}
GONE = {"unigram_perplexity", "bigram_perplexity", "counted_tokens"}  # since d21cde9


def assert_same_evaluation(found: dict[str, Any], expected: dict[str, Any]) -> None:
    expected = {name: value for name, value in expected.items() if name.rpartition("/")[2] not in GONE}
    more = found.keys() - expected.keys()
    assert {name.rpartition("/")[2] for name in more} <= ADDED
    assert found.keys() - more == expected.keys()
    for name, value in expected.items():
        same = (
            found[name] == value if isinstance(value, str) else found[name] == pytest.approx(value, rel=1e-6)
        )
        assert same, (name, found[name], value)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_every_leaf_of_a_state_has_its_bits(name: str) -> None:
    assert old.digests(state(name)) == GOLDEN["runs"][name]["state"]


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN["models"])
def test_parameters_of_runs_and_marks_have_their_bits(name: str) -> None:
    assert old.digests(load_model(name, warn=pytest.fail).params) == GOLDEN["models"][name]["params"]


@pytest.mark.parametrize("name", GOLDEN["artifacts"])
def test_parameters_of_artifacts_have_their_bits(name: str) -> None:
    """With or without FMA, of which XLA decides: that is in the last bits of codes whose zero is 'float'."""
    found, expected = load_model(f"artifacts/{name}", warn=pytest.fail).params, GOLDEN["artifacts"][name]
    assert old.digests(found) in (expected["params"], expected.get("params_rounded"))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "translation")) for name in GOLDEN["models"]],
)
def test_runs_and_marks_evaluate_as_they_did(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_same_evaluation(evaluated(capsys, name), GOLDEN["models"][name]["evaluation"])


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN["artifacts"])
def test_artifacts_evaluate_as_they_did(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(capsys, f"artifacts/{name}", "--data.dir", old.artifact_data(name))
    assert_same_evaluation(found, GOLDEN["artifacts"][name]["evaluation"])


@pytest.mark.slow
@pytest.mark.parametrize("name", old.STEPS)
def test_a_resumed_run_has_the_updates_that_it_had_before(name: str) -> None:
    expected = GOLDEN["runs"][name]
    train.main(old.resume(name, name))
    found = old.losses(Path(name), expected["step"])
    assert len(found) == old.RESUMED
    assert found == pytest.approx(expected["resumed"]["losses"], rel=1e-5)
    count_models = [
        line["step"]
        for line in read_metrics(Path(name) / "metrics.jsonl")
        if any(f"/{model}_" in key for key in line for model in COUNT_MODELS)
    ]
    assert count_models == ([] if name == "classifier" else [expected["step"]]), "where it was resumed, once"


def test_what_is_kept_is_small_and_names_no_machine() -> None:
    files = [path for path in old.FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    contents = [path.read_bytes() for path in files if path.suffix != ".xz"]
    for name in old.ARCHIVES:
        with tarfile.open(old.FOLDER / f"{name}.tar.xz") as archive:
            contents += [file.read() for member in archive if (file := archive.extractfile(member))]
    assert not any(
        place in content for content in contents for place in (b"/tmp", b"/home", b"/root", b"/work")
    )
