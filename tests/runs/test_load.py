"""Loaded models are sharded over the mesh of their config or of the command, and are the same models."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from tlc_jax import compress
from tlc_jax.config import MeshConfig
from tlc_jax.core.tree import flatten
from tlc_jax.inference.evaluation import evaluate_model
from tlc_jax.inference.model_with_data import load_with_data
from tlc_jax.runs.load import load_model
from tlc_jax.training.metrics import read_metrics

QUERY = "encoder/layers/attention/query/kernel"


def with_mesh(run: Path, copy: Path, **mesh: int | None) -> str:
    """A copy of a run that says it was trained on another mesh."""
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps({**config, "mesh": {"data": None, "fsdp": 1, "tensor": 1} | mesh})
    )
    return str(copy)


@pytest.mark.slow
def test_a_model_of_a_sharded_run_is_loaded_sharded(finished: Path, tmp_path: Path) -> None:
    sharded = with_mesh(finished, tmp_path / "run", fsdp=2, tensor=2)
    compress.main(["--checkpoint", sharded, "--bits", "8", "--out", str(tmp_path / "artifact")])
    expected = flatten(load_model(str(finished), warn=pytest.fail).params)
    for reference in (sharded, f"{sharded}@last2", str(tmp_path / "artifact")):
        model = load_model(reference, warn=pytest.fail)
        assert dict(model.mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
        for path, x in flatten(model.params).items():
            assert x.shape == expected[path].shape
            assert len(x.sharding.device_set) == jax.device_count() == 8
        query = flatten(model.params)[QUERY]
        assert 4 * math.prod(query.sharding.shard_shape(query.shape)) == query.size
    params = flatten(load_model(sharded, warn=pytest.fail).params)
    for path, x in expected.items():
        np.testing.assert_array_equal(params[path], x, err_msg=path)


@pytest.mark.slow
def test_a_sharded_model_evaluates_to_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    loaded = load_with_data(with_mesh(finished, tmp_path / "run", fsdp=2, tensor=2), Console(quiet=True))
    query = flatten(loaded.params)[QUERY]
    assert 4 * math.prod(query.sharding.shard_shape(query.shape)) == query.size
    metrics, trained = (
        evaluate_model(loaded, Console(quiet=True)),
        read_metrics(finished / "metrics.jsonl")[-1],
    )
    for name in ("loss", "accuracy"):
        name = f"eval/held_out/{name}"
        assert metrics[name] == pytest.approx(trained[name], rel=1e-5), name


def test_the_mesh_of_the_command_or_of_as_many_devices_as_there_are(finished: Path, tmp_path: Path) -> None:
    sharded = with_mesh(finished, tmp_path / "run", fsdp=2, tensor=2)
    model = load_model(sharded, MeshConfig(tensor=4), warn=pytest.fail)
    assert dict(model.mesh.shape) == {"data": 2, "fsdp": 1, "tensor": 4}
    elsewhere = with_mesh(finished, tmp_path / "elsewhere", data=32, fsdp=1, tensor=2)
    assert dict(load_model(elsewhere, warn=pytest.fail).mesh.shape) == {"data": 4, "fsdp": 1, "tensor": 2}
    too_many, warnings = with_mesh(finished, tmp_path / "too_many", fsdp=16), list[str]()
    model = load_model(too_many, warn=warnings.append)
    assert dict(model.mesh.shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert "groups of 16 devices (mesh.fsdp x mesh.tensor), but there are 8 here" in warnings[0]
