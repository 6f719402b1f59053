"""Statistics and damage of an encoder's folder over a text, against numpy; compress --hf with a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from tests.builders import documents
from tests.data.encoder_tokenizers import library
from tests.pretrained_folders import BERT, drawn, write_bert
from tlc_jax import compress
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.artifacts.encoder_folder import open_encoder_folder
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.config.quantization import QuantSpec
from tlc_jax.core.errors import UserError
from tlc_jax.models.encoder import encode, init_mlm
from tlc_jax.models.families import ENCODER
from tlc_jax.recipes.folder_on_text import FolderOnText, folder_on_text

LINES = [line for text in documents(3) for line in text.split("\n")]
QUERY = "bert.encoder.layer.{}.attention.self.query.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a head, and a text in the file lines.txt beside it."""
    root = tmp_path_factory.mktemp("on_text")
    (root / "lines.txt").write_text("\n\n".join(LINES), encoding="utf-8")
    params = drawn(lambda key: init_mlm(BERT, key))
    write_bert(root / "whole", params)
    weights = root / "whole" / "model.safetensors"
    tensors = safetensors.numpy.load_file(weights)
    safetensors.numpy.save_file({n: x for n, x in tensors.items() if n.startswith("bert.")}, weights)
    return root / "whole"


@pytest.fixture(scope="module")
def on_text(folder: Path) -> FolderOnText:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    lines = str(folder.parent / "lines.txt")
    return folder_on_text(folder, lines, tensors, list(tensors), Console(quiet=True))


def rows(folder: Path) -> list[list[int]]:
    tokenizer = library(folder / "tokenizer.json")
    tokenizer.enable_truncation(BERT.max_positions)
    return [tokenizer.encode(line).ids for line in LINES]


@pytest.mark.slow
def test_statistics_are_those_of_the_tokens_of_the_text(folder: Path, on_text: FolderOnText) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    ids = np.concatenate(rows(folder))
    positions = np.concatenate([np.arange(len(row)) for row in rows(folder)])
    table = lambda name: tensors[f"bert.embeddings.{name}_embeddings.weight"]  # noqa: E731
    x = table("word")[ids] + table("position")[positions] + table("token_type")[0]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + BERT.norm_epsilon)
    x = x * tensors["bert.embeddings.LayerNorm.weight"] + tensors["bert.embeddings.LayerNorm.bias"]
    moment = on_text.inputs[QUERY.format(0)].second_moment
    np.testing.assert_allclose(np.asarray(moment), x.T @ x / len(x), rtol=1e-4, atol=1e-5)
    embedding = on_text.inputs["bert.embeddings.word_embeddings.weight"]
    uses = np.bincount(ids, minlength=BERT.vocab_size)
    np.testing.assert_allclose(np.asarray(embedding.uses), uses / uses.sum(), atol=1e-7)
    assert embedding.second_moment is None, "there is no output"
    assert on_text.inputs.keys() <= tensors.keys()


@pytest.mark.slow
def test_damage_is_that_of_the_hidden_states(folder: Path, on_text: FolderOnText, tmp_path: Path) -> None:
    """As the encoder of a folder with other tensors has them, row by row without padding."""
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    changed = {QUERY.format(1): 1.1 * tensors[QUERY.format(1)]}

    def states(weights: dict[str, Any]) -> list[np.ndarray]:
        safetensors.numpy.save_file(weights, folder / "model.safetensors")
        params = jax.device_put(open_encoder_folder(folder, ENCODER.huggingface_names).params())
        hidden = jax.jit(lambda ids: encode(BERT, params, ids))
        return [np.asarray(hidden(jnp.array([row])))[0] for row in rows(folder)[:4]]

    before, after = states(tensors), states(tensors | changed)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (tmp_path / "lines.txt").write_text("\n".join(LINES[:4]), encoding="utf-8")
    few = folder_on_text(folder, str(tmp_path / "lines.txt"), tensors, list(tensors), Console(quiet=True))
    lost = sum(((b - a) ** 2).sum() for a, b in zip(before, after, strict=True))
    assert few.damage(changed) == pytest.approx(lost / sum((a**2).sum() for a in before), rel=1e-3)
    assert on_text.damage({}) == 0


@pytest.mark.slow
def test_steps_that_know_the_inputs_take_a_folder_and_a_text(
    folder: Path, on_text: FolderOnText, tmp_path: Path
) -> None:
    """The hidden states move less than after plain rounding to the same bits."""
    text = ["--calibration-text", str(folder.parent / "lines.txt")]
    options = ["--hf", str(folder), "--config", "compensated", "--bits", "2", *text]
    compress.main([*options, "--out", str(tmp_path / "out")])
    artifact = read_artifact(tmp_path / "out")
    compensated = {name: leaf.dense() for name, leaf in artifact.tensors.items()}
    tensors, spec = safetensors.numpy.load_file(folder / "model.safetensors"), QuantSpec(2, "row", "mse")
    plain = {n: quantize_tensor(n, x, spec).dense() if x.ndim == 2 else x for n, x in tensors.items()}
    assert on_text.damage(compensated) < on_text.damage(plain)
    assert artifact.manifest["compression"]["calibration_text"] == "lines.txt"


def test_what_does_not_go_together_is_refused(folder: Path, tmp_path: Path) -> None:
    text = ["--calibration-text", str(folder.parent / "lines.txt"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"needs calibration data: that takes a run, or --calibration-text"):
        compress.main(["--hf", str(folder), "--config", "compensated", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="no step of the recipe reads --calibration-text"):
        compress.main(["--hf", str(folder), *text])
    (tmp_path / "other").mkdir()
    safetensors.numpy.save_file({"a": np.ones((8, 8), "f4")}, tmp_path / "other" / "model.safetensors")
    with pytest.raises(UserError, match=r"it has no config\.json"):
        compress.main(["--hf", str(tmp_path / "other"), "--config", "compensated", *text])
