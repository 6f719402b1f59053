"""Exported codes, loaded by the libraries that are named: values are ours, whatever was compressed how."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tlc_jax import compress, export
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.artifacts.model_folder import read_arrays
from tlc_jax.core.leaf import to_dense

pytestmark = pytest.mark.interop
torch = pytest.importorskip("torch", reason="needs the extra `interop`")
transformers = pytest.importorskip("transformers", reason="needs the extra `interop`")
packed = pytest.importorskip(
    "compressed_tensors.compressors.pack_quantized.base", reason="needs compressed-tensors"
)

SHAPES = {
    "two": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "type_vocab_size": 2,
        "num_labels": 2,
        "vocab_size": 50,
    },
    "one": {
        "hidden_size": 36,
        "intermediate_size": 3,
        "type_vocab_size": 1,
        "num_labels": 9,
        "vocab_size": 37,
    },
}
GRANULARITIES = ("tensor", "row", "group:4", "group:16")


def model_folder(root: Path, shape: str) -> Path:
    """A classification of texts with matrices of 1, 2 and 9 rows, of 3 columns, and embeddings."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=20, **SHAPES[shape]
    )
    model = transformers.BertForSequenceClassification(config)
    for x in model.parameters():  # heavy tails, and biases that are not zero
        x.data = torch.tensor(np.random.default_rng(x.numel()).standard_t(3, tuple(x.shape))).float() * 0.1
    folder = root / shape
    model.save_pretrained(folder)
    return folder


def loaded(folder: Path, **how: Any) -> dict[str, np.ndarray]:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, **how)
    model.eval()(torch.tensor([[1, 2, 3]]))
    return {name: x.detach().numpy() for name, x in model.state_dict().items()}


def decoded(folder: Path) -> dict[str, np.ndarray]:
    """By compressed-tensors itself."""
    from compressed_tensors.quantization import QuantizationConfig

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    (scheme,) = QuantizationConfig.model_validate(config).config_groups.values()
    arrays = {name: torch.tensor(x) for name, x in read_arrays(folder).items()}
    found = {}
    for module in scheme.targets:
        parts = {
            name.rpartition(".")[2]: x for name, x in arrays.items() if name.startswith(f"{module}.weight_")
        }
        values = packed.PackedQuantizationCompressor.decompress(parts, scheme)["weight"]
        found[f"{module}.weight"] = values.numpy()
    return found


def compressed_and_exported(source: Path, out: Path, options: list[str]) -> dict[str, np.ndarray]:
    """What was compressed, by our own decoder; the export is in out / 'codes'."""
    compress.main(["--hf", str(source), *options, "--out", str(out / "artifact")])
    how = ["--format", "compressed-tensors", "--out", str(out / "codes")]
    export.main(["--checkpoint", str(out / "artifact"), *how])
    return {name: np.asarray(x) for name, x in to_dense(read_artifact(out / "artifact").tensors).items()}


def assert_loaded_as(expected: dict[str, np.ndarray], folder: Path) -> None:
    configured = transformers.CompressedTensorsConfig(dequantize=True)
    for found in (loaded(folder), loaded(folder, quantization_config=configured), decoded(folder)):
        for name, x in found.items():
            np.testing.assert_array_equal(x, expected[name], err_msg=name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sparsity", ["0", "0.7"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_combination_loads(
    bits: int, granularity: str, sparsity: str, shape: str, tmp_path: Path
) -> None:
    options = ["--bits", str(bits), "--granularity", granularity, "--range", "minmax", "--sparsity", sparsity]
    source = model_folder(tmp_path, shape)
    expected = compressed_and_exported(source, tmp_path, options)
    zeros = sum(int((x == 0).sum()) for x in expected.values())
    assert zeros >= float(sparsity) * sum(x.size for x in expected.values() if x.ndim == 2) - 1
    assert_loaded_as(expected, tmp_path / "codes")


@pytest.mark.parametrize("how", ["minmax", "percentile:1", "mse"])
def test_other_ranges_load(how: str, tmp_path: Path) -> None:
    source = model_folder(tmp_path, "two")
    options = ["--bits", "3", "--range", how, "--granularity", "group:8", "--sparsity", "0.5"]
    options += ["--coding", "brotli"]
    assert_loaded_as(compressed_and_exported(source, tmp_path, options), tmp_path / "codes")


def test_bits_and_ranges_of_many_kinds_load(tmp_path: Path) -> None:
    """Of one model, as a mix of bits has them."""
    source = model_folder(tmp_path, "two")
    kinds = itertools.cycle([(2, "tensor"), (4, "row"), (4, "group:8"), (3, "group:16"), (4, "group:16")])
    names = [name for name, x in read_arrays(source).items() if x.ndim == 2]
    rules = [
        f"Rule({name!r}, QuantSpec({bits}, {granularity!r}))"
        for name, (bits, granularity) in zip(names, kinds, strict=False)
    ]
    (tmp_path / "recipe.py").write_text(
        "from tlc_jax.config.quantization import QuantSpec, Rule\n"
        "from tlc_jax.config.compression import CompressConfig\n"
        f"def get_config():\n    return CompressConfig(rules=({', '.join(rules)}, Rule('.*')))\n",
        encoding="utf-8",
    )
    expected = compressed_and_exported(source, tmp_path, ["--config", str(tmp_path / "recipe.py")])
    assert_loaded_as(expected, tmp_path / "codes")
    config = json.loads((tmp_path / "codes" / "config.json").read_text(encoding="utf-8"))
    assert len(config["quantization_config"]["config_groups"]["group_0"]["targets"]) > len(names) / 2


def test_weights_all_over_float32_load(tmp_path: Path) -> None:
    source = model_folder(tmp_path, "two")
    arrays = safetensors.numpy.load_file(source / "model.safetensors")
    scale = dict(
        zip((name for name, x in arrays.items() if x.ndim == 2), (1e38, 1e-30, 1e20, 1e-37), strict=False)
    )
    scaled = {name: x * np.float32(scale.get(name, 1)) for name, x in arrays.items()}
    assert all(np.isfinite(x).all() for x in scaled.values())
    safetensors.numpy.save_file(scaled, source / "model.safetensors", {"format": "pt"})
    expected = compressed_and_exported(source, tmp_path, ["--bits", "8"])
    assert all(np.isfinite(x).all() for x in expected.values())
    assert_loaded_as(expected, tmp_path / "codes")


@pytest.mark.parametrize("zero", ["nudged", "symmetric"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_ranges_of_16_bits_and_symmetric_codes_load(
    bits: int, granularity: str, zero: str, tmp_path: Path
) -> None:
    source = model_folder(tmp_path, "two")
    options = ["--bits", str(bits), "--granularity", granularity, "--zero", zero, "--range", "mse"]
    expected = compressed_and_exported(source, tmp_path, [*options, "--range-dtype", "bfloat16"])
    assert_loaded_as(expected, tmp_path / "codes")


def test_floats_of_16_bits_load(tmp_path: Path) -> None:
    """As the nearest numbers of 16 bits, by torch's own rounding, with the logits that these have."""
    source = model_folder(tmp_path, "two")
    compress.main(["--hf", str(source), "--bits", "6", "--out", str(tmp_path / "artifact")])
    how = ["--format", "huggingface", "--dtype", "bfloat16", "--out", str(tmp_path / "half")]
    export.main([str(tmp_path / "artifact"), *how])
    exact = {name: np.array(x) for name, x in to_dense(read_artifact(tmp_path / "artifact").tensors).items()}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "half").eval()
    assert model.dtype == torch.bfloat16
    for name, x in model.state_dict().items():
        assert torch.equal(x, torch.tensor(exact[name]).to(torch.bfloat16)), name
    tokens = torch.tensor([[1, 2, 3]])
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(source).eval()
    whole.load_state_dict({name: torch.tensor(x) for name, x in exact.items()}, strict=False)
    logits = model.float()(tokens).logits
    np.testing.assert_allclose(logits.detach(), whole(tokens).logits.detach(), rtol=0.05, atol=0.05)
