"""Codes for compressed-tensors: one scheme a model, which holds what was compressed without loss, and what is
refused. tests/artifacts/test_loaded_codes.py has the libraries read the same."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests.exports import from_compressed_tensors
from tlc_jax import compress, export
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.artifacts.compressed_tensors import Packed, to_compressed_tensors
from tlc_jax.artifacts.model_folder import read_arrays
from tlc_jax.compression.quantize import block_shape, quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense

SHAPES = {
    "tall.weight": (40, 16),
    "two.weight": (2, 16),
    "one.weight": (1, 48),
    "three.weight": (5, 3),
    "wide.weight": (9, 48),
}


def matrices(specs: dict[str, QuantSpec], sparsity: float = 0.0) -> dict[str, QuantizedTensor]:
    """Any codes, and any of them for zero; values below 1 that no grid but their own has."""
    found, rng = {}, np.random.default_rng(0)
    for name, spec in specs.items():
        shape, codes = SHAPES[name], 2**spec.bits
        block = block_shape(name, shape, spec)
        blocks = tuple(size // own for size, own in zip(shape, block, strict=True))
        delta = rng.uniform(0.5, 1, blocks).astype(np.float32) / np.float32(codes)
        zero = rng.integers(0, codes, blocks).astype(np.int32)
        mask = rng.uniform(size=shape) > sparsity if sparsity else None
        found[name] = QuantizedTensor(rng.integers(0, codes, shape).astype(np.uint8), delta, zero, mask, spec)
    return found


def read_back(packed: Packed) -> dict[str, np.ndarray]:
    """By our reader, whose values equal those of the library (test_oracles.py)."""
    leaves = from_compressed_tensors(packed.arrays, packed.config)
    return {name: np.asarray(leaf.dense()) for name, leaf in leaves.items()}


@pytest.mark.slow
@given(
    bits=st.lists(st.integers(1, 8), min_size=5, max_size=5),
    granularities=st.lists(st.sampled_from(["tensor", "row", "group:4", "group:16"]), min_size=5, max_size=5),
    sparsity=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_one_scheme_holds_or_names_everything(bits: list, granularities: list, sparsity: float) -> None:
    chosen = {
        name: QuantSpec(k, "row" if name == "three.weight" and "group" in granularity else granularity)
        for name, k, granularity in zip(SHAPES, bits, granularities, strict=True)
    }
    tensors = matrices(chosen, sparsity)
    values = {name: np.asarray(x) for name, x in to_dense(tensors).items()}
    packed = to_compressed_tensors(tensors)
    assert len(packed.config["config_groups"]) == 1
    assert packed.config["dequantize"] is True
    found = read_back(packed)
    for name, x in values.items():
        np.testing.assert_array_equal(found[name], x, err_msg=name)
    targets = {f"{module}.weight" for module in packed.config["config_groups"]["group_0"]["targets"]}
    assert targets == SHAPES.keys() - packed.dense.keys()
    if len(set(chosen.values())) == 1 and chosen["tall.weight"].granularity != "group:16":
        assert packed.dense.keys() <= {"two.weight", "three.weight", "one.weight"}


def test_what_the_library_fails_to_read_is_float32() -> None:
    """Zero points of groups at 4 bits of 8 rows or fewer are one word, of which it makes a broken tensor."""
    for bits, granularity, dense in ((4, "group:4", True), (3, "group:4", False), (4, "row", False)):
        packed_up = {name: QuantSpec(bits, granularity) for name in ("tall.weight", "two.weight")}
        tensors = matrices(packed_up)
        packed = to_compressed_tensors(tensors)
        assert ("two.weight" in packed.dense) == dense
        assert "tall.weight" not in packed.dense


def test_the_scheme_is_that_of_the_fewest_bytes() -> None:
    few_large = matrices({"tall.weight": QuantSpec(2, "row"), "one.weight": QuantSpec(8, "row")})
    packed = to_compressed_tensors(few_large)
    (group,) = packed.config["config_groups"].values()
    assert (group["weights"]["num_bits"], packed.widened) == (2, [])
    assert "it has 8 bits, and most of the model 2" in packed.dense["one.weight"]
    alike = matrices({"tall.weight": QuantSpec(4, "row"), "one.weight": QuantSpec(5, "tensor")})
    packed = to_compressed_tensors(alike)
    assert packed.widened == ["tall.weight"]
    assert not packed.dense


@pytest.mark.parametrize("granularity", ["tensor", "row", "group:4"])
def test_a_range_without_zero_is_refused_or_float32(granularity: str) -> None:
    ours = quantize_tensor(
        "tall.weight", jnp.ones(SHAPES["tall.weight"]), QuantSpec(4, granularity, zero="float")
    )
    begins = {"tall.weight": ours}
    with pytest.raises(
        UserError, match="zero is no code.*compress it again with --granularity row --zero nudged"
    ):
        to_compressed_tensors(begins)
    q = matrices({"tall.weight": QuantSpec(4, granularity)})["tall.weight"]
    above = dataclasses.replace(q, offset=np.full_like(q.offset, -90))
    both = {**matrices({"wide.weight": QuantSpec(4, granularity)}), "tall.weight": above}
    packed = to_compressed_tensors(both)
    assert "far on one side" in packed.dense["tall.weight"]
    np.testing.assert_array_equal(read_back(packed)["tall.weight"], to_dense(both)["tall.weight"])


def test_a_zero_just_outside_the_codes_fits_where_they_do() -> None:
    """Codes 3 to 9 of a zero at -2 are multiples 5 to 11: as codes of a zero at 0 they have room."""
    q = QuantizedTensor(
        np.array([[3, 9]] * 9, np.uint8),
        np.full((9, 1), 0.5, np.float32),
        np.full((9, 1), -2),
        None,
        QuantSpec(4, "row"),
    )
    packed = to_compressed_tensors({"a.weight": q})
    np.testing.assert_array_equal(read_back(packed)["a.weight"], [[2.5, 5.5]] * 9)


# --- the commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as SentenceTransformers are, with token types of two rows, and a head of two."""
    root = tmp_path_factory.mktemp("sentences") / "model"
    (root / "1_Pooling").mkdir(parents=True)
    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (40, 128),
        "embeddings.token_type_embeddings.weight": (2, 128),
        "encoder.dense.weight": (128, 40),
        "encoder.dense.bias": (128,),
        "classifier.weight": (2, 128),
    }
    arrays = {name: rng.standard_t(3, shape).astype(np.float32) for name, shape in shapes.items()}
    safetensors.numpy.save_file(arrays, root / "model.safetensors")
    documents = {
        "config.json": {"model_type": "bert"},
        "modules.json": [{"path": ""}, {"path": "1_Pooling"}, {"path": "2_Normalize"}],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    }
    for name, content in documents.items():
        (root / name).write_text(json.dumps(content), encoding="utf-8")
    return root


def compressed(source: Path, out: Path, *options: str) -> Path:
    compress.main(["--hf", str(source), *options, "--out", str(out)])
    return out


def exported(artifact: Path, out: Path) -> Path:
    export.main(["--checkpoint", str(artifact), "--format", "compressed-tensors", "--out", str(out)])
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--bits", "4"),
        ("--bits", "4", "--sparsity", "0.6"),
        ("--bits", "3", "--granularity", "row", "--sparsity", "0.9"),
    ],
)
def test_the_defaults_and_sparsity_are_exported(
    options: tuple[str, ...], sentences: Path, tmp_path: Path
) -> None:
    artifact = compressed(sentences, tmp_path / "artifact", *options)
    codes = exported(artifact, tmp_path / "codes")
    config = json.loads((codes / "config.json").read_text(encoding="utf-8"))
    found = to_dense(from_compressed_tensors(read_arrays(codes), config["quantization_config"]))
    for name, x in to_dense(read_artifact(artifact).tensors).items():
        np.testing.assert_array_equal(found[name], x, err_msg=name)
    assert (codes / "1_Pooling" / "config.json").read_bytes() == (
        sentences / "1_Pooling" / "config.json"
    ).read_bytes()
    assert (codes / "modules.json").read_bytes() == (sentences / "modules.json").read_bytes()


def test_what_is_not_written_as_codes_is_reported(sentences: Path, tmp_path: Path, capsys) -> None:
    artifact = compressed(sentences, tmp_path / "artifact", "--bits", "4", "--granularity", "group:64")
    capsys.readouterr()
    exported(artifact, tmp_path / "codes")
    said = capsys.readouterr().out
    assert "1 matrices as codes for compressed-tensors (4 bits, group)" in said
    reasons = re.findall("as float32, (.*)", said)
    assert (
        "cannot read groups of at most 8 rows at 4 bits: classifier.weight, embeddings.token_type"
        in reasons[0]
    )
    assert (
        "its ranges (row) are not those of most of the model (group:64): encoder.dense.weight" in reasons[1]
    )


@pytest.mark.slow
def test_nothing_is_written_of_what_is_refused(sentences: Path, tmp_path: Path) -> None:
    for number, options in enumerate((("--zero", "float"), ("--bits", "32"))):
        artifact = compressed(sentences, tmp_path / f"artifact{number}", *options)
        with pytest.raises(
            UserError, match="no matrix can be stored as codes.*or export it with --format huggingface"
        ):
            exported(artifact, tmp_path / "codes")
        assert not (tmp_path / "codes").exists()


@pytest.mark.parametrize(("former", "coding"), [("--zstd", "zstd"), ("--no-zstd", "plain")])
def test_the_option_of_earlier_versions(tmp_path: Path, former: str, coding: str) -> None:
    """Scripts that people have go on."""
    (tmp_path / "hf").mkdir()
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    safetensors.numpy.save_file({"layer.weight": weights}, tmp_path / "hf" / "model.safetensors")
    for options, out in (([former], "one"), (["--coding", coding], "other")):
        compress.main(["--hf", str(tmp_path / "hf"), "--bits", "4", *options, "--out", str(tmp_path / out)])
    one, other = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "other"))
    assert one == other
