"""Anybody's checkpoint: compressed by rules without its model, and written again for others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from tests.exports import from_compressed_tensors
from tlc_jax import compress, evaluate, export
from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.artifacts.checkpoint_folder import CheckpointFolder
from tlc_jax.artifacts.model_folder import read_arrays
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense
from tlc_jax.models.families import ENCODER
from tlc_jax.storage.run_directory import RunDir

NAMES = ("embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight", "pooler.dense.weight")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in two files, float32 and bfloat16, with vectors, and positions that are no weights."""
    root = tmp_path_factory.mktemp("foreign") / "model"
    root.mkdir()
    rng = np.random.default_rng(0)
    first = {NAMES[0]: rng.standard_t(3, size=(50, 16)).astype(np.float32)}
    first["embeddings.position_ids"] = np.arange(32)[None]
    second = {name: rng.normal(size=(16, 16)).astype(ml_dtypes.bfloat16) for name in NAMES[1:]}
    second |= {"encoder.layer.0.output.dense.bias": rng.normal(size=16).astype(np.float32)}
    safetensors.numpy.save_file(first, root / "model-00001-of-00002.safetensors")
    safetensors.numpy.save_file(second, root / "model-00002-of-00002.safetensors")
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    names = dict.fromkeys(first, shards[0]) | dict.fromkeys(second, shards[1])
    (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (root / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (root / "pytorch_model.bin").write_bytes(b"weights once more")
    return root


def values(folder: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for path in folder.glob("*.safetensors"):
        arrays |= safetensors.numpy.load_file(path)
    return arrays


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Path:
    out = folder.parent / "artifact"
    how = ["--granularity", "tensor", "--range", "minmax", "--no-matrices-only"]
    compress.main(["--hf", str(folder), "--bits", "4", "--sparsity", "0.3", *how, "--out", str(out)])
    return out


def test_it_is_pruned_and_quantized_by_shapes(folder: Path, artifact: Path) -> None:
    found, source = read_artifact(artifact), values(folder)
    assert found.tensors.keys() == source.keys()
    entries, size = found.manifest["tensors"], found.manifest["size"]
    matrices = {name: np.asarray(source[name], np.float32) for name in NAMES}
    magnitudes = np.sort(np.abs(np.concatenate([matrices[name].ravel() for name in NAMES])))
    pruned = round(0.3 * magnitudes.size)
    assert size["weights"] - size["nonzeros"] == pruned
    assert size["weights"] == magnitudes.size + 16
    for name, x in matrices.items():
        kept = np.abs(x) > magnitudes[pruned - 1]
        entry, dense = entries[name], np.asarray(found.tensors[name].dense())
        assert (dense[~kept] == 0).all()
        step = float(np.max(found.tensors[name].delta))
        assert np.abs(dense - x)[kept].max() <= step / 2 + 1e-6
        assert entry["bits"] == 4
        error = np.linalg.norm(dense - x) / np.linalg.norm(x)
        assert entry["relative_error"] == pytest.approx(error, rel=1e-3)
    np.testing.assert_array_equal(found.tensors["embeddings.position_ids"].dense(), np.arange(32)[None])
    assert entries["encoder.layer.0.output.dense.bias"]["why"] == "not pruned: a vector"
    assert {path.name for path in artifact.iterdir()} == {
        "model.safetensors",
        "manifest.json",
        "config.json",
        "README.md",
    }


@pytest.mark.parametrize("kind", ["huggingface", "compressed-tensors"])
def test_it_is_written_again_for_others(artifact: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    export.main(["--checkpoint", str(artifact), "--format", kind, "--out", str(out)])
    expected, arrays = to_dense(read_artifact(artifact).tensors), read_arrays(out)
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "bert"
    if kind == "compressed-tensors":
        found = from_compressed_tensors(arrays, config["quantization_config"])
        assert {name for name, x in found.items() if isinstance(x, QuantizedTensor)} == set(NAMES)
        arrays = to_dense(found)
    assert arrays.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(arrays[name], x, err_msg=name)


@pytest.mark.slow
def test_a_run_as_compressed_tensors(finished: Path, tmp_path: Path) -> None:
    """Under Hugging Face's names and in its layout; the values are the artifact's."""
    options = ["--bits", "6", "--granularity", "row", "--range", "mse"]
    compress.main(["--checkpoint", str(finished), *options, "--out", str(tmp_path / "a")])
    out = tmp_path / "out"
    export.main(["--checkpoint", str(tmp_path / "a"), "--format", "compressed-tensors", "--out", str(out)])
    config = json.loads((out / "config.json").read_text())
    found = to_dense(from_compressed_tensors(read_arrays(out), config["quantization_config"]))
    expected = to_dense(read_artifact(tmp_path / "a").tensors)
    names = ENCODER.huggingface_names(RunDir(finished).read_config().model)
    for ours, theirs in ((ours, names[ours]) for ours in expected):
        x = np.asarray(expected[ours])
        np.testing.assert_array_equal(found[theirs], x.T if ours.endswith("/kernel") else x, err_msg=ours)
    packed = sum(len(g["targets"]) for g in config["quantization_config"]["config_groups"].values())
    assert packed == sum(x.ndim == 2 for x in expected.values())


def test_what_cannot_be_is_refused(folder: Path, artifact: Path, finished: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="give either RUN or --hf"):
        compress.main(["--hf", str(folder), "--checkpoint", str(finished), *out])
    with pytest.raises(UserError, match=r"has no \.safetensors file"):
        compress.main(["--hf", str(tmp_path), *out])
    broken = shutil.copytree(folder, tmp_path / "broken")
    path = broken / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        compress.main(["--hf", str(broken), *out])
    with pytest.raises(UserError, match="was not made from a run"):
        evaluate.main(["--checkpoint", str(artifact)])
    with pytest.raises(UserError, match="compress it first"):
        export.main(["--checkpoint", str(finished), "--format", "compressed-tensors", *out])
    assert not (tmp_path / "out").exists()


def test_odd_tensors_are_kept_and_broken_models_refused(tmp_path: Path) -> None:
    """Constants, scalars, empty and boolean tensors; not-a-number, a missing shard, a tensor twice."""
    root = tmp_path / "odd"
    root.mkdir()
    odd = {
        "constant.weight": np.full((4, 4), 0.1, np.float32),
        "near.weight": np.array([[1.0, 1.0000001]], np.float32),
        "negative.bias": np.full(3, -2.5, np.float32),
        "logit_scale": np.array(4.6052, np.float32),
        "empty.weight": np.zeros((0, 4), np.float32),
        "mask": np.array([[True, False]]),
    }
    safetensors.numpy.save_file(odd, root / "weights.safetensors")
    for options in (["--bits", "8"], ["--bits", "4", "--range", "mse"]):
        out = tmp_path / f"out{options[1]}"
        compress.main(["--hf", str(root), *options, "--out", str(out)])
        for name, x in to_dense(read_artifact(out).tensors).items():
            np.testing.assert_allclose(x, odd[name], rtol=3e-7, err_msg=name)
    refused = ["--hf", str(root), "--out", str(tmp_path / "refused")]
    safetensors.numpy.save_file({"mask": odd["mask"]}, root / "other.safetensors")
    with pytest.raises(UserError, match="contains 'mask' a second time"):
        compress.main(refused)
    (root / "other.safetensors").unlink()
    for file, says in (
        ("x", "names x, which do not exist"),
        ("weights.safetensors", "names 1 tensors that are in no file"),
    ):
        (root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lost.weight": file}}))
        with pytest.raises(UserError, match=says):
            compress.main(refused)
    (root / "model.safetensors.index.json").unlink()
    for value in (np.nan, np.inf):
        broken = {"a.weight": np.array([[1.0, value]], np.float32)}
        safetensors.numpy.save_file(broken, root / "weights.safetensors")
        with pytest.raises(UserError, match="'a.weight' has weights that are not finite"):
            compress.main(refused)
    safetensors.numpy.save_file({"mask": odd["mask"]}, root / "weights.safetensors")
    with pytest.raises(UserError, match="has no weights"):
        compress.main(refused)
    assert not (tmp_path / "refused").exists()


def test_floats_are_exported_in_16_bits(tmp_path: Path) -> None:
    """Each is the nearest bfloat16 to what the artifact holds; integers stay, and config.json says so."""
    rng = np.random.default_rng(0)
    arrays = {"a.weight": rng.normal(size=(8, 64)).astype(np.float32), "positions": np.arange(8)}
    (tmp_path / "hf").mkdir()
    safetensors.numpy.save_file(arrays, tmp_path / "hf" / WEIGHTS)
    (tmp_path / "hf" / "config.json").write_text('{"model_type": "x", "dtype": "float32"}', encoding="utf-8")
    artifact, out = tmp_path / "artifact", tmp_path / "out"
    compress.main(["--hf", str(tmp_path / "hf"), "--bits", "32", "--out", str(artifact)])
    with pytest.raises(UserError, match="omit --dtype, or give --format huggingface"):
        export.main(
            [str(artifact), "--format", "compressed-tensors", "--dtype", "bfloat16", "--out", str(out)]
        )
    assert not out.exists()
    export.main([str(artifact), "--format", "huggingface", "--dtype", "bfloat16", "--out", str(out)])
    assert json.loads((out / "config.json").read_text(encoding="utf-8")) == {
        "model_type": "x", "dtype": "bfloat16",
    }  # fmt: skip
    with safetensors.safe_open(out / WEIGHTS, "numpy") as file:
        assert file.get_slice("a.weight").get_dtype() == "BF16"
    found = CheckpointFolder(out)
    x = arrays["a.weight"]
    upper = (x.view(np.uint32) + 0x7FFF + ((x.view(np.uint32) >> 16) & 1)) & np.uint32(0xFFFF0000)  # to even
    np.testing.assert_array_equal(found["a.weight"], upper.astype(np.uint32).view(np.float32))
    np.testing.assert_array_equal(found["positions"], arrays["positions"])
