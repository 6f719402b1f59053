"""Low-rank factors against the singular values of numpy, as bytes, and through artifacts and exports."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.forging import forge, forge_parts
from tlc_jax import compress as compress_command
from tlc_jax import export, inspect
from tlc_jax.artifacts import manifest
from tlc_jax.artifacts.artifact import WEIGHTS, read_artifact
from tlc_jax.artifacts.encoding import decode, encode
from tlc_jax.compression.methods import ByRule, LowRank, PruneMagnitude, Quantize
from tlc_jax.compression.methods.low_rank import LowRankTensor, factors
from tlc_jax.compression.pipeline import compress, make_plan
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError

SHAPES = [(40, 16), (16, 40), (24, 24)]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, size=shape).astype(np.float32)


def factored(x: np.ndarray, rank: int, *more: Quantize) -> Any:
    leaf = compress({"x": x}, (LowRank(rank=rank), *more)).tensors["x"]
    assert isinstance(leaf, LowRankTensor)
    return leaf


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_error_is_the_tail_of_the_singular_values(shape: tuple[int, int], rank: int) -> None:
    """Eckart and Young: no matrix of this rank is closer."""
    x = drawn(*shape)
    dense = factored(x, rank).dense().astype(np.float64)
    tail = np.linalg.svd(x.astype(np.float64), compute_uv=False)[rank:]
    assert np.linalg.norm(x - dense) == pytest.approx(np.linalg.norm(tail), rel=1e-6)
    assert np.linalg.norm(x - dense, 2) == pytest.approx(tail[0], rel=1e-5)
    assert np.linalg.matrix_rank(dense, tol=1e-5 * np.linalg.norm(dense)) == rank


def test_a_matrix_of_low_rank_comes_back() -> None:
    x = drawn(30, 4) @ drawn(4, 20, seed=1)
    np.testing.assert_allclose(factored(x, 4).dense(), x, rtol=0, atol=2e-6 * np.abs(x).max())


def test_factors_are_balanced_and_have_a_sign() -> None:
    x = drawn(40, 16)
    left, right = factors("x", x, 5)
    values = np.linalg.svd(x.astype(np.float64), compute_uv=False)[:5]
    np.testing.assert_allclose(np.square(left).sum(axis=0), values, rtol=1e-5)
    np.testing.assert_allclose(np.square(right).sum(axis=1), values, rtol=1e-5)
    assert (left[np.abs(left).argmax(axis=0), range(5)] > 0).all()
    negated = factors("x", -x, 5)
    np.testing.assert_array_equal(negated[0], left)
    np.testing.assert_array_equal(negated[1], -right)


@pytest.mark.parametrize(
    ("step", "shape", "rank"),
    [
        (LowRank(0.5), (40, 16), 5),  # 5.7
        (LowRank(0.99), (24, 24), 11),  # 12 would be as large as the matrix
        (LowRank(0.05), (24, 24), 0),
        (LowRank(rank=7), (24, 24), 7),
        (LowRank(rank=12), (24, 24), 0),
        (LowRank(), (0, 4), 0),
        (LowRank(), (0, 0), 0),
    ],
)
def test_the_rank_that_saves_bytes(step: LowRank, shape: tuple[int, int], rank: int) -> None:
    assert step.rank_of(shape) == rank
    result = compress({"x": drawn(*shape)}, (step,))
    assert isinstance(result.tensors["x"], LowRankTensor) == bool(rank)
    assert ("since that saves no bytes" in result.rules["x"].why) == (not rank)


def test_matrices_by_the_rules() -> None:
    """Those that may be pruned, and are not; nothing is factored that is no matrix."""
    tensors = {"one": drawn(24, 24), "other": drawn(24, 24), "vector": drawn(24), "cube": drawn(8, 8, 8)}
    rules = (Rule("one|cube", prune=True), Rule(".*"))
    leaves = compress(tensors, (ByRule(rules), LowRank())).tensors
    assert [name for name, leaf in leaves.items() if isinstance(leaf, LowRankTensor)] == ["one"]
    plan = make_plan(tensors, (PruneMagnitude(0.3), LowRank()))
    assert all(isinstance(plan.convert(name, x), FloatTensor) for name, x in tensors.items())
    assert plan.undone == {"not factored, since some weights are pruned": ["one", "other"]}
    assert plan.idle() == [1]
    whole = compress(tensors, (LowRank(),), masks={"one": np.ones((24, 24), bool)})
    assert isinstance(whole.tensors["one"], LowRankTensor)


@pytest.mark.parametrize("options", [{"zero": "symmetric"}, {"range_dtype": "bfloat16"}])
def test_ranges_that_factors_are_not_stored_with_are_refused(options: dict[str, Any]) -> None:
    """Before anything is computed, in a matrix that would be factored."""
    [(option, value)] = options.items()
    recipe = (LowRank(rank=3), Quantize(QuantSpec(4, **options)))
    says = f"the factors of x .*{value}: give --{option.replace('_', '-')} .*, or a rule without prune=True"
    with pytest.raises(UserError, match=says):
        make_plan({"x": drawn(40, 16)}, recipe)
    leaf = compress({"x": drawn(3, 4)}, recipe).tensors["x"]
    assert isinstance(leaf, QuantizedTensor), "no factors of rank 3 are smaller"


@pytest.mark.parametrize(
    "spec", [None, QuantSpec(8, "row"), QuantSpec(3, range="mse"), QuantSpec(4, zero="float")]
)
@pytest.mark.parametrize("coding", ["plain", "brotli", "zstd"])
def test_it_comes_back_bit_for_bit(spec: QuantSpec | None, coding: str) -> None:
    leaf = factored(drawn(40, 70), 6, *([Quantize(spec)] if spec else []))
    entry, parts = encode(leaf, coding)
    back = decode(json.loads(json.dumps(entry)), parts)
    assert isinstance(back, LowRankTensor)
    assert back.dense().tobytes() == leaf.dense().tobytes()
    again, same = encode(back, coding)
    assert again == entry
    assert same.keys() == parts.keys()
    assert all(same[part].tobytes() == x.tobytes() for part, x in parts.items())


@pytest.mark.parametrize(
    "spec", [QuantSpec(32), QuantSpec(8), QuantSpec(3, "group:8"), QuantSpec(4, zero="float")]
)
def test_sizes(spec: QuantSpec) -> None:
    leaf = factored(drawn(40, 70), 6, Quantize(spec))
    sizes, stored = leaf.sizes(), encode(leaf, "plain")[1].values()
    assert sizes.format_bytes == sum(part.nbytes for part in stored)
    assert sizes.paper_bytes == 6 * (40 + 70) * spec.bits / 8
    assert (sizes.weights, sizes.nonzeros, sizes.float32_bytes) == (2800, 2800, 11200)
    if spec.bits < 32:
        codes = sum(-(-6 * size * spec.bits // 8) for size in (40, 70))
        assert sizes.format_bytes == codes + 2 * 6 * 8, "two numbers for each component of each factor"


def test_quantized_factors_have_a_range_for_each_component() -> None:
    x = drawn(64, 96)
    leaf = factored(x, 16, Quantize(QuantSpec(8, "group:32")))
    assert isinstance(leaf.left, QuantizedTensor)
    assert (leaf.left.delta.shape, leaf.right.delta.shape) == ((1, 16), (16, 1))
    exact = factored(x, 16).dense()
    assert np.linalg.norm(leaf.dense() - exact) < 0.01 * np.linalg.norm(exact)


def test_codes_whose_ranges_take_more_than_they_save_are_not_made() -> None:
    """24 x 24 at 8 bits are 576 bytes; factors of rank 11 are 528, and their ranges 176."""
    result = compress({"x": drawn(24, 24)}, (LowRank(rank=11), Quantize(QuantSpec(8))))
    assert isinstance(result.tensors["x"], QuantizedTensor)
    assert result.rules["x"].why == "not factored (rank 11), since that saves no bytes"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    with pytest.raises(UserError, match="x has values that are not finite"):
        compress({"x": np.full((8, 8), value, np.float32)}, (LowRank(),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"share must be in \(0, 1\), not 0.0"),
        ({"share": 1}, r"share must be in \(0, 1\), not 1"),
        ({"rank": 0}, "rank must be positive, not 0"),
    ],
)
def test_options_that_mean_nothing(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LowRank(**options)


# --- artifacts --------------------------------------------------------------------------------------------

ARRAYS = {
    "wide.weight": drawn(24, 64),
    "tall.weight": drawn(96, 32, seed=1),
    "tiny.weight": drawn(3, 1),
    "wide.bias": drawn(24),
    "positions": np.arange(9),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("low_rank") / "hf"
    root.mkdir()
    safetensors.numpy.save_file(ARRAYS, root / WEIGHTS)
    (root / "config.json").write_text("{}")
    return root


def compressed(folder: Path, out: Path, *options: str) -> Path:
    compress_command.main(["--hf", str(folder), "--config", "low_rank", *options, "--out", str(out)])
    return out


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--bits", "32"), ("--coding", "brotli")])
def test_the_config_document(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    artifact = compressed(folder, tmp_path / "out", *options)
    assert "not factored (share 0.5), since that saves no bytes: tiny.weight\n" in capsys.readouterr().out
    found, bits = read_artifact(artifact), 32 if "32" in options else 8
    spec = QuantSpec(bits, "row")
    expected = compress(ARRAYS, (LowRank(), Quantize(spec, matrices_only=True)))
    for name, leaf in expected.tensors.items():
        assert type(found.tensors[name]) is type(leaf), name
        np.testing.assert_array_equal(found.tensors[name].dense(), leaf.dense(), err_msg=name)
    assert found.manifest["size"] == dataclasses.asdict(expected.sizes())
    entry = found.manifest["tensors"]["tall.weight"]
    assert (entry["layout"], entry["rank"], entry["bits"]) == ("low_rank", 12, bits)
    inspect.main([str(artifact)])
    assert "rank 12" in capsys.readouterr().out
    export.main(["--checkpoint", str(artifact), "--format", "huggingface", "--out", str(tmp_path / "hf")])
    exported = safetensors.numpy.load_file(tmp_path / "hf" / WEIGHTS)
    for name, x in expected.dense().items():
        np.testing.assert_array_equal(exported[name], np.asarray(x), err_msg=name)


NAME = "tall.weight"
NOT_FINITE = np.full(12, np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.update(rank=13), "its left_codes are uint8"),
        (lambda entry: entry.update(rank=33), "has no rank 33"),
        (lambda entry: entry.update(rank=0), "greater than or equal to 1"),
        (lambda entry: entry.update(rank=2.5), "valid integer"),
        (lambda entry: entry.pop("rank"), "rank: field required"),
        (lambda entry: entry.update(shape=[96, 32, 1]), "has no rank 12"),
        (lambda entry: entry.update(shape=[3072]), "has no rank 12"),
        (lambda entry: entry.update(bits=9), "bits: "),
        (lambda entry: entry.update(bits=32), "elements of its left_values are not there|its parts are"),
        (lambda entry: entry.update(zero="float"), "its left_offset are int32"),
        (lambda entry: entry.update(zero="none"), "zero: "),
        (lambda entry: entry.update(range="all"), "range must be"),
        (lambda entry: entry.update(shape=[2**20, 2**20], weights=2**40, nonzeros=2**40), "are not there"),
        (lambda entry: entry.update(layout="low rank"), "is none that this program reads"),
    ],
)
def test_a_forged_entry_is_refused(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    artifact = compressed(folder, tmp_path / "out")
    forge(artifact, lambda manifest: change(manifest["tensors"][NAME]))
    with pytest.raises(UserError, match=message):
        read_artifact(artifact)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"left_delta": NOT_FINITE}, "its ranges are not finite"),
        ({"left_delta": np.ones((1, 12), np.float32)}, re.escape("its left_delta are float32 (1, 12)")),
        ({"right_offset": np.zeros(12, np.int8)}, "its right_offset are int8"),
        ({"right_codes": np.zeros(5, np.uint8)}, "its right_codes are uint8"),
        ({"left_values": np.zeros(4, np.float32)}, "its parts are"),
    ],
)
def test_forged_parts_are_refused(
    folder: Path, tmp_path: Path, parts: dict[str, np.ndarray], message: str
) -> None:
    artifact = compressed(folder, tmp_path / "out")
    forge_parts(artifact, NAME, parts)
    with pytest.raises(UserError, match=message):
        read_artifact(artifact)


def test_what_could_not_be_read_again_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound on weights for each byte holds for what is written, too."""
    monkeypatch.setattr(manifest, "_LEAST", 1000)
    monkeypatch.setattr(manifest, "_EXPANSION", 1)
    with pytest.raises(
        UserError, match="could not be read again .* do not hold .*: give a larger rank or share"
    ):
        compressed(folder, tmp_path / "out", "--steps.0.rank", "1")
    assert not (tmp_path / "out").exists()


def test_many_weights_of_few_bytes_are_refused(folder: Path, tmp_path: Path) -> None:
    """Two short factors would have a product that no memory holds."""
    artifact, size = compressed(folder, tmp_path / "out"), 200_000
    parts = {"left_codes": np.zeros(size, np.uint8), "right_codes": np.zeros(size, np.uint8)}
    ranges = {f"{side}_delta": np.ones(1, np.float32) for side in ("left", "right")}
    parts |= ranges | {f"{side}_offset": np.zeros(1, np.int32) for side in ("left", "right")}
    forge_parts(artifact, NAME, parts, rank=1, shape=[size, size], weights=size**2, nonzeros=size**2)
    with pytest.raises(UserError, match="do not hold 40,000,000,000 weights"):
        read_artifact(artifact)
