"""Exported folders: what transformers says of them, that they come back bit for bit, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.builders import documents, write_tables
from tests.golden import make_export
from tests.golden.make_export import CASES, LABELS, LENGTHS, SHAPE, TEXTS
from tlc_jax import compress, export, train
from tlc_jax.artifacts.artifact import read_artifact
from tlc_jax.artifacts.encoder_folder import open_encoder_folder
from tlc_jax.artifacts.huggingface import write_huggingface
from tlc_jax.artifacts.model_folder import WEIGHTS
from tlc_jax.config import ModelConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import to_dense
from tlc_jax.core.stacked import join, split
from tlc_jax.data.tokenizer import train_tokenizer
from tlc_jax.inference import exporting
from tlc_jax.models.classifier import apply_classifier
from tlc_jax.models.encoder import apply_mlm
from tlc_jax.models.families import ENCODER
from tlc_jax.runs.load import load_model

cases = pytest.mark.parametrize("name", CASES)
NAMING = ENCODER.huggingface_names


def imported(folder: Path) -> tuple[dict[str, Any], ModelConfig, tuple[str, ...]]:
    """(parameters, configuration, labels) of a folder."""
    found = open_encoder_folder(folder, NAMING)
    return found.params(), found.config, found.label_names


def our_logits(config: ModelConfig, params: dict[str, Any]) -> np.ndarray:
    tokens, params = jnp.asarray(make_export.tokens()), jax.tree.map(jnp.asarray, params)
    if "classification_head" in params:
        classify = functools.partial(apply_classifier, config, classes=len(LABELS))
        return np.asarray(jax.jit(classify)(params, tokens))
    everywhere = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return np.asarray(jax.jit(functools.partial(apply_mlm, config))(params, tokens, everywhere))


def assert_like_huggingface(golden: dict[str, np.ndarray]) -> None:
    for name in CASES:
        ours, theirs = our_logits(*make_export.case(name)), golden[name]
        assert ours.shape == theirs.shape
        assert np.abs(theirs).max() > 0.5, "the test has teeth"
        if name == "mlm":  # what is computed for pads is nobody's business
            ours, theirs = (np.concatenate([x[i, :n] for i, n in enumerate(LENGTHS)]) for x in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5, err_msg=name)
    tokenizer = train_tokenizer(documents(100), SHAPE["vocab_size"])
    for name in ("classification", "mlm"):
        tokenizer.encode_special_tokens = name == "classification"
        for i, text in enumerate(TEXTS):
            assert golden[f"{name}_ids_{i}"].tolist() == tokenizer.encode(*text).ids, (name, text)


@pytest.mark.slow
def test_transformers_computes_what_we_do() -> None:
    assert_like_huggingface(dict(np.load(Path(__file__).parent.parent / "golden" / "export.npz")))


@pytest.mark.interop
def test_transformers_computes_what_we_do_live(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `interop`")
    pytest.importorskip("transformers", reason="needs the extra `interop`")
    make_export.write(tmp_path)
    assert_like_huggingface(make_export.read(tmp_path))


# --- there and back ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    make_export.write(root)
    return root


def assert_equal_params(found: dict[str, Any], expected: dict[str, Any]) -> None:
    ours, theirs = tree.flatten(found), tree.flatten(expected)
    assert ours.keys() == theirs.keys()
    for path, x in theirs.items():
        assert ours[path].dtype == np.float32
        assert ours[path].shape == x.shape
        assert ours[path].tobytes() == np.asarray(x).tobytes(), path


@pytest.mark.parametrize("name", ["mlm", "classification"])
def test_each_tensor_has_one_name_there(name: str, exported: Path) -> None:
    config, params = make_export.case(name)
    names = {ours: ENCODER.huggingface_names(config)[ours] for ours in split(params)}
    stored = safetensors.numpy.load_file(exported / name / WEIGHTS)
    own = "roberta_prelayernorm.embeddings.token_type_embeddings.weight"
    assert sorted([*names.values(), own]) == sorted(stored)
    assert not stored[own].any()


@pytest.mark.parametrize("name", ["mlm", "classification"])
def test_a_plain_model_comes_back(name: str, exported: Path) -> None:
    config, params = make_export.case(name)
    found, same, labels = imported(exported / name)
    assert same == config
    assert labels == (() if name == "mlm" else LABELS)
    assert_equal_params(found, params)


def test_pruned_heads_come_back_as_zeros(exported: Path) -> None:
    config, params = make_export.case("pruned")
    found, whole, _ = imported(exported / "pruned")
    assert whole == dataclasses.replace(config, num_heads=None)
    assert (whole.heads, whole.feed_forward, config.heads) == (4, 40, 2)
    np.testing.assert_allclose(our_logits(whole, found), our_logits(config, params), rtol=0, atol=1e-6)
    ours, theirs = (tree.flatten(each["encoder"]["layers"]["attention"]) for each in (params, found))
    for path, x in theirs.items():
        inner = tuple(slice(size) for size in ours[path].shape)
        np.testing.assert_array_equal(x[inner], ours[path], err_msg=path)
        rest = x.copy()
        rest[inner] = 0
        assert not rest.any(), path


def test_a_model_without_prunable_units_is_written_as_it_is(tmp_path: Path) -> None:
    config, params = make_export.case("mlm")
    names = ENCODER.huggingface_names(config)
    for folder, units in ((tmp_path / "with", ENCODER.prunable_units(config)), (tmp_path / "without", ())):
        folder.mkdir()
        write_huggingface(folder, params, config, b"{}", names, units)
    assert (tmp_path / "with" / WEIGHTS).read_bytes() == (tmp_path / "without" / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_a_family_that_hugging_face_does_not_have_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_WRITERS", {})
    with pytest.raises(UserError, match="is of the family encoder, which has no counterpart in Hugging Face"):
        exported_from(finished, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shared_layer_comes_back_once_for_each(exported: Path) -> None:
    config, params = make_export.case("shared")
    found, unshared, _ = imported(exported / "shared")
    assert unshared == dataclasses.replace(config, shared_layers="none", num_heads=None)
    np.testing.assert_allclose(our_logits(unshared, found), our_logits(config, params), rtol=0, atol=1e-6)
    kernel = found["encoder"]["layers"]["attention"]["query"]["kernel"]
    assert kernel.shape == (3, 32, 32)
    own = params["encoder"]["layers"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(kernel[:, :, :24], np.repeat(own, 3, axis=0))


@cases
def test_what_came_back_is_exported_the_same(name: str, exported: Path, tmp_path: Path) -> None:
    params, config, labels = imported(exported / name)
    tokenizer = (exported / name / "tokenizer.json").read_bytes()
    make_export.write_model(tmp_path, params, config, tokenizer, labels)
    for path in (exported / name).iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_one_token_type_goes_into_the_positions(exported: Path, tmp_path: Path) -> None:
    """Every token has it."""
    folder = shutil.copytree(exported / "mlm", tmp_path / "copy")
    weights = safetensors.numpy.load_file(folder / WEIGHTS)
    plain = imported(folder)[0]["encoder"]
    types = np.random.default_rng(0).normal(size=(1, 32)).astype(np.float32)
    weights["roberta_prelayernorm.embeddings.token_type_embeddings.weight"] = types
    weights["lm_head.decoder.bias"] = weights["lm_head.bias"]
    safetensors.numpy.save_file(weights, folder / WEIGHTS)
    found = imported(folder)[0]["encoder"]
    np.testing.assert_array_equal(found["position_embedding"], plain["position_embedding"] + types)
    np.testing.assert_array_equal(found["token_embedding"], plain["token_embedding"])


# --- the door ----------------------------------------------------------------------------------------

CLASSIFICATION = """
from tlc_jax.config import *

def get_config():
    return Config(
        task=ClassificationConfig(dropout=0.2, head_dropout=0.3),
        data=DataConfig(dir={tables!r}, sequence_length=16, held_out=0.1, cache_dir={cache!r}),
        budget=BudgetConfig(steps=3),
        batch_size=16,
        log_every=1,
    )
"""


@pytest.fixture(scope="module")
def runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each task."""
    root = tmp_path_factory.mktemp("classification")
    places = {"tables": str(write_tables(root / "tables")), "cache": str(root / "cache")}
    (root / "tiny.py").write_text(CLASSIFICATION.format(**places))
    workdir = ["--workdir", str(root / "run"), "--init-from", str(finished)]
    train.main(["--config", str(root / "tiny.py"), *workdir])
    return {"mlm": finished, "classification": root / "run"}


def exported_from(root: Path, out: Path) -> Path:
    export.main(["--checkpoint", str(root), "--format", "huggingface", "--out", str(out)])
    return out


@pytest.mark.slow
@pytest.mark.parametrize("task", ["mlm", "classification"])
def test_a_run_and_its_artifact_come_back(task: str, runs: dict[str, Path], tmp_path: Path) -> None:
    model = load_model(str(runs[task]), warn=pytest.fail)
    config = model.config.model
    if task == "classification":
        config = dataclasses.replace(config, dropout=0.2, attention_dropout=0.2)
    found, same, labels = imported(exported_from(runs[task], tmp_path / "run"))
    assert same == config
    assert labels == model.label_names == (() if task == "mlm" else ("other", "same"))
    assert_equal_params(found, model.params)
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about.get("classifier_dropout") == (None if task == "mlm" else 0.3)

    artifact = str(tmp_path / "artifact")
    options = ["--bits", "4", "--sparsity", "0.5", "--out", artifact]
    compress.main(["--checkpoint", str(runs[task]), *options])
    compressed, *others = imported(exported_from(Path(artifact), tmp_path / "compressed"))
    assert others == [config, labels]
    assert_equal_params(compressed, join(to_dense(read_artifact(Path(artifact)).tensors)))
    kernel = compressed["encoder"]["layers"]["attention"]["query"]["kernel"]
    assert 0.2 < (kernel == 0).mean() < 0.8


def test_the_same_run_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(finished, tmp_path / "elsewhere")
    shutil.rmtree(moved / "data")  # which an export does not need
    one, other = exported_from(finished, tmp_path / "one"), exported_from(moved, tmp_path / "other")
    names = sorted(path.name for path in one.iterdir())
    card, *files = names  # the card of a run without data has no metric
    assert card == "README.md"
    assert files == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


def test_what_cannot_be_is_refused(finished: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty: give a new folder"):
        exported_from(finished, exported)
    with pytest.raises(UserError, match="is neither a run directory"):
        exported_from(tmp_path, tmp_path / "out")
    config, params = make_export.case("mlm")
    for change in ({"num_heads": 5}, {"hidden_size": 20, "num_heads": 2}):
        other = dataclasses.replace(config, **change)
        with pytest.raises(UserError, match=r"Hugging Face cannot express \d heads of 8 in a hidden size of"):
            make_export.write_model(tmp_path, params, other, b"{}")
    assert not any(tmp_path.iterdir())
