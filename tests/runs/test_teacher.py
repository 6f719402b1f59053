"""A run keeps the teacher that it began with, and refuses one that does not go with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.builders import assert_equal_runs, lines
from tlc_jax import compress, train
from tlc_jax.config import MeshConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.load import load_model
from tlc_jax.runs.teacher import fingerprint

SMALL = ("--model.num-layers", "1", "--model.hidden-size", "16")


@pytest.fixture(scope="module")
def student(command, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run that learnt from the tiny run."""
    workdir = tmp_path_factory.mktemp("runs") / "student"
    train.main(command(workdir, *SMALL, "--distil.teacher", str(finished)))
    return workdir


@pytest.mark.slow
def test_a_resumed_run_equals_an_unbroken_one_and_keeps_its_teacher(
    command, finished: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = shutil.copytree(finished, tmp_path / "teacher")
    begun = command(tmp_path / "w", *SMALL, "--distil.teacher", str(teacher))
    asked = iter([False] * 6 + [True])  # step 6 asks again after its evaluation
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: next(asked))
        with pytest.raises(Interrupted, match="step 6"):
            train.main(begun)
    teacher.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"distil\.teacher: .*teacher is neither .*; give --distil\.teacher"):
        train.main(["--workdir", str(tmp_path / "w")])
    for other, now in ((str(student), "has the teacher"), ("None", "has no teacher")):
        with pytest.raises(UserError, match=f"was trained with the teacher .*, and distil.teacher now {now}"):
            train.main(["--workdir", str(tmp_path / "w"), "--distil.teacher", other])
    train.main(["--workdir", str(tmp_path / "w"), "--distil.teacher", str(tmp_path / "moved")])
    assert_equal_runs(tmp_path / "w", student)


@pytest.mark.slow
def test_what_a_run_says_of_its_teacher(finished: Path, student: Path) -> None:
    [start] = json.loads((student / "environment.json").read_text())["starts"]
    model = load_model(str(finished))
    assert start["teacher"] == str(finished)
    assert start["teacher_fingerprint"] == fingerprint(model.params, model.mesh)
    written = [line for line in lines(student) if "train/distil_loss" in line]
    assert [line["step"] for line in written] == [4, 8, 12]
    assert all(0 < line["train/distil_loss"] < np.log(300) + 1 for line in written)
    alone = [line["flops"] for line in lines(finished) if line["step"] == 12][-1]
    assert written[-1]["flops"] > alone / 3, "the teacher's forward pass counts"


@pytest.mark.slow
def test_recovery_and_compression_need_no_teacher(student: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(student, tmp_path / "student")
    document = json.loads((moved / "config.json").read_text())
    assert document["distil"]["teacher"]
    document["distil"]["teacher"] = str(tmp_path / "gone")
    (moved / "config.json").write_text(json.dumps(document))
    compress.main([str(moved), "--bits", "8", "--out", str(tmp_path / "artifact")])


@pytest.mark.slow
def test_a_teacher_that_does_not_go_with_the_run_is_refused(
    command, finished: Path, student: Path, tmp_path: Path
) -> None:
    vocabulary = ("--model.vocab-size", "290")
    tokens = ("--data.sequence-length", "32", "--data.held-out", "0.5")
    for more, words in (
        (
            (*vocabulary, "--distil.teacher", str(finished)),
            "vocabulary of 300 tokens and the run one of 290",
        ),
        (("--distil.teacher", str(tmp_path / "none")), "neither a run directory nor an artifact"),
        (("--distil.teacher", f"{finished}@1/8"), "1/8"),
        (("--distil.teacher", str(finished), "--distil.weight", "1.5"), r"distil.weight must be in \[0, 1\]"),
        ((*tokens, "--distil.teacher", str(finished)), "has another tokenizer than the data"),
        (
            ("--distil.teacher", str(finished), "--distil.hidden-weight", "1"),
            "hidden states of .* and the run of",
        ),
    ):
        with pytest.raises(UserError, match=words):
            train.main(command(tmp_path / "w", *SMALL, *more))
        assert not (tmp_path / "w").exists()


def test_a_fingerprint_is_that_of_the_weights_on_every_mesh() -> None:
    rng = np.random.default_rng(0)
    params = {"encoder": {"a": rng.normal(size=(8, 16)), "b": rng.normal(size=16)}}
    params = jax.tree.map(lambda x: jax.numpy.asarray(x, jax.numpy.float32), params)
    mesh = make_mesh(MeshConfig())
    expected = fingerprint(params, mesh)
    rules = jax.sharding.PartitionSpec(("data",))
    spread = jax.device_put(params, jax.sharding.NamedSharding(mesh, rules))
    assert fingerprint(spread, mesh) == expected
    a = params["encoder"]["a"]
    swapped = a.at[0, 0].set(a[0, 1]).at[0, 1].set(a[0, 0])
    for changed in (a.at[7, 15].set(np.nextafter(a[7, 15], 9)), swapped, a.reshape(16, 8)):
        assert fingerprint({"encoder": {**params["encoder"], "a": changed}}, mesh) != expected
