"""Weights anywhere in float32, against numpy in float64: finite and near, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax import compress, export
from tlc_jax.artifacts.model_folder import read_arrays
from tlc_jax.compression import in_pieces
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError

LARGEST, TINY = (float(x) for x in (np.finfo(np.float32).max, np.finfo(np.float32).tiny))
GRANULARITIES = {"tensor": (3, 8), "row": (1, 8), "group:4": (1, 4)}
magnitudes = st.one_of(
    st.floats(0, 1.0, width=32),
    st.integers(-149, 127).map(lambda e: float(np.ldexp(1.0, e))),
    st.sampled_from([0.0, 1.0, LARGEST, 3e38, 1e38, TINY, TINY * 0.99, 1e-37, 1e-45, 5e-32]),
)
weights = st.lists(
    st.builds(lambda m, s: np.float32(m * s), magnitudes, st.sampled_from([1, -1])), min_size=24, max_size=24
)
grids = st.tuples(st.integers(1, 8), st.sampled_from(list(GRANULARITIES)))


def in_blocks(x: np.ndarray, granularity: str) -> np.ndarray:
    """[blocks, weights of a block]."""
    rows, columns = GRANULARITIES[granularity]
    return x.reshape(3 // rows, rows, 8 // columns, columns).transpose(0, 2, 1, 3).reshape(-1, rows * columns)


def quantized(
    x: np.ndarray, spec: QuantSpec, mask: np.ndarray | None = None
) -> tuple[QuantizedTensor, np.ndarray]:
    q = quantize_tensor("a.weight", x, spec, mask)
    assert isinstance(q, QuantizedTensor)
    return q, np.asarray(q.dense())


@pytest.mark.slow
@given(values=weights, grid=grids, masked=st.booleans())
def test_nudged_grids_are_finite_and_as_fine_as_their_range(values: list, grid: tuple, masked: bool) -> None:
    (bits, granularity), x = grid, np.array(values, np.float32).reshape(3, 8)
    mask = np.abs(x) > np.median(np.abs(x)) if masked else None
    q, found = quantized(x, QuantSpec(bits, granularity), mask)
    assert np.isfinite(q.delta).all()
    assert (np.asarray(q.delta) >= TINY).all()
    assert np.isfinite(found).all()
    kept = x.astype(np.float64) if mask is None else np.where(mask, x.astype(np.float64), 0.0)
    for w, v in zip(in_blocks(kept, granularity), in_blocks(found, granularity), strict=True):
        low, high = w.min(), w.max()
        if masked or granularity != "tensor":
            low, high = min(low, 0.0), max(high, 0.0)
        largest, step = max(abs(low), abs(high)), (high - low) / (2**bits - 1)
        half = 0.5 if largest + step < LARGEST else 1.0  # there the grid ends where float32 does
        assert np.abs(v - w).max() <= half * step * (1 + 1e-5) + largest * 2.0**-20 + TINY


@pytest.mark.slow
@given(values=weights, grid=grids)
def test_least_squares_are_no_worse_than_the_whole_range(values: list, grid: tuple) -> None:
    (bits, granularity), x = grid, np.array(values, np.float32).reshape(3, 8)
    errors = []
    for how in ("mse", "minmax"):
        q, found = quantized(x, QuantSpec(bits, granularity, how))
        assert np.isfinite(q.delta).all()
        assert np.isfinite(found).all()
        change = in_blocks(found.astype(np.float64) - x, granularity)
        errors.append(np.sqrt((change**2).sum(axis=1)))
    largest = np.abs(in_blocks(x.astype(np.float64), granularity)).max(axis=1)
    # where the grid is cut off at the end of float32 a range is judged by what it would have been
    allowed = np.where(largest > LARGEST / 4, 1.2 * errors[1] + largest * 0.02, errors[1] * (1 + 1e-3))
    assert (errors[0] <= allowed + largest * 1e-5 + 10 * TINY).all()


@given(values=weights, grid=grids)
def test_a_range_that_begins_where_it_begins_is_finite_or_wider_than_float32(
    values: list, grid: tuple
) -> None:
    (bits, granularity), x = grid, np.array(values, np.float32).reshape(3, 8)
    _, found = quantized(x, QuantSpec(bits, granularity, zero="float"))
    for w, v in zip(in_blocks(x.astype(np.float64), granularity), in_blocks(found, granularity), strict=True):
        span = w.max() - w.min()
        if span < LARGEST * (1 - 1e-5):
            step = span / (2**bits - 1)
            assert np.abs(v - w).max() <= 0.5 * step * (1 + 1e-5) + np.abs(w).max() * 2.0**-20 + TINY
        elif span > LARGEST:
            assert not np.isfinite(v).any()


@pytest.mark.parametrize("value", [3.4e38, -LARGEST, 1.0, -2.5, 1e-37, 0.0])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (4, 4), (7,)])
def test_constants_come_back(value: float, shape: tuple[int, ...]) -> None:
    x = np.full(shape, value, np.float32)
    for granularity in ("tensor", "row"):
        found = quantized(x, QuantSpec(4, granularity))[1]
        np.testing.assert_allclose(found, x, rtol=2.0**-19, atol=TINY / 2)


@pytest.mark.slow
def test_pieces_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large arrays are quantized in pieces: the same codes, along either axis, whatever is left over."""
    x = np.random.default_rng(0).standard_t(3, (37, 24)).astype(np.float32)
    mask = np.abs(x) > 0.2
    cases = [("a.weight", "row"), ("a.weight", "group:8"), ("a/kernel", "row"), ("a.weight", "tensor")]
    ways = [
        (*case, how, kept) for case in cases for how in ("minmax", "percentile:2") for kept in (None, mask)
    ]
    whole = [quantize_tensor(n, jnp.asarray(x), QuantSpec(3, g, how), kept) for n, g, how, kept in ways]
    monkeypatch.setattr(in_pieces, "PIECE", 100)
    for (name, granularity, how, kept), expected in zip(ways, whole, strict=True):
        q = quantize_tensor(name, x, QuantSpec(3, granularity, how), kept)
        for part in ("codes", "delta", "offset"):
            np.testing.assert_array_equal(getattr(q, part), getattr(expected, part), err_msg=f"{name} {how}")


# --- the command -------------------------------------------------------------------------------------


def folder_of(root: Path, arrays: dict[str, np.ndarray]) -> Path:
    root.mkdir()
    safetensors.numpy.save_file(arrays, root / "model.safetensors")
    return root


@pytest.mark.parametrize("granularity", ["tensor", "row", "group:2"])
@pytest.mark.parametrize("how", ["minmax", "mse"])
def test_large_weights_are_exported_near_themselves(granularity: str, how: str, tmp_path: Path) -> None:
    large = {
        "a.weight": np.array([[1, 1e38, -3e38, 3e38]] * 4, np.float32),
        "mask.weight": np.array([[LARGEST, -LARGEST], [-LARGEST, LARGEST]], np.float32),
        "b.weight": np.array([[3e38, 2e38], [1e30, 1e-30]]).astype(ml_dtypes.bfloat16),
    }
    source, options = folder_of(tmp_path / "hf", large), ["--granularity", granularity, "--range", how]
    compress.main(["--hf", str(source), *options, "--out", str(tmp_path / "out")])
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    export.main(
        ["--checkpoint", str(tmp_path / "out"), "--format", "huggingface", "--out", str(tmp_path / "ex")]
    )
    for name, x in read_arrays(tmp_path / "ex").items():
        expected = large[name].astype(np.float64)
        assert np.abs(x - expected).max() < 0.02 * np.abs(expected).max(), name


def test_what_no_range_holds_is_refused_by_name(tmp_path: Path) -> None:
    wide = {"a.weight": np.array([[LARGEST, -LARGEST]] * 2, np.float32)}
    beyond = {"b.weight": np.array([[1.0, 1e300]] * 2)}
    out = ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"'a\.weight' is no longer finite at 8 bits.*give --zero nudged"):
        compress.main(["--hf", str(folder_of(tmp_path / "wide", wide)), "--zero", "float", *out])
    source = str(folder_of(tmp_path / "beyond", beyond))
    for options in ([], ["--sparsity", "0.5"], ["--bits", "32"], ["--target-mb", "1"]):
        with pytest.raises(UserError, match=r"b\.weight'? has (weights|values) that are not finite"):
            compress.main(["--hf", source, *options, *out])
    assert not (tmp_path / "out").exists()


def test_weights_too_small_for_float32_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "hf").mkdir()
    tiny = np.array([[1e-300, 1.0, 0.0, 2.0]] * 4)
    safetensors.numpy.save_file({"a.weight": tiny}, tmp_path / "hf" / "model.safetensors")
    compress.main(["--hf", str(tmp_path / "hf"), "--bits", "8", "--out", str(tmp_path / "out")])
    assert "4 weights of a.weight are too small for float32" in capsys.readouterr().out


def test_subnormal_weights_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {
        "kept.bias": np.full(4, 1e-40, np.float32),  # vectors stay as they are
        "all.weight": np.full((4, 4), 1e-41, np.float32),
        "some.weight": np.array([[1e-39, 0.0, 1.0, -1.0]], np.float32),
        "none.weight": np.array([[1e-36, -2e-36, 3e-36, -0.0]], np.float32),
    }
    source = folder_of(tmp_path / "hf", small)
    compress.main(["--hf", str(source), "--granularity", "row", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "16 weights of all.weight are below 1.2e-38" in said
    assert "1 weights of some.weight are below" in said
    assert "kept.bias" not in said
    assert "of none.weight are" not in said
    export.main(
        ["--checkpoint", str(tmp_path / "out"), "--format", "huggingface", "--out", str(tmp_path / "ex")]
    )
    found = read_arrays(tmp_path / "ex")
    np.testing.assert_array_equal(found["kept.bias"], small["kept.bias"])
    np.testing.assert_allclose(
        found["none.weight"], small["none.weight"], rtol=0, atol=5e-36 / 255 / 2 * 1.01
    )
    assert not found["all.weight"].any()
