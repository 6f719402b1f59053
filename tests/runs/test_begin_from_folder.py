"""Runs that begin with an encoder of transformers: what they take from its folder, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from rich.console import Console

from tests.builders import write_corpus, write_tables
from tests.pretrained_folders import BERT, drawn, write_bert
from tlc_jax import compress, export, train
from tlc_jax.artifacts.encoder_folder import open_encoder_folder
from tlc_jax.config import Config, DataConfig
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.inference.text_classifier import Classifier
from tlc_jax.models.classifier import init_classifier
from tlc_jax.models.encoder import init_mlm
from tlc_jax.models.families import ENCODER
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.runs.begin_from_folder import InitFromFolder
from tlc_jax.runs.load import load_model
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import TrainState, init_state

CONFIG = """
from tlc_jax.config import *

def get_config():
    return Config(
        task={task},
        model=ModelConfig(remat="none"),
        data=DataConfig(dir={data!r}, sequence_length=32, held_out=0.2, cache_dir={cache!r}),
        optimizer=OptimizerConfig(learning_rate=1e-20),
        budget=BudgetConfig(steps=1),
        evaluation=EvaluationConfig(max_rows=16),
        batch_size=8,
        log_every=1,
    )
"""


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BertForMaskedLM."""
    folder = tmp_path_factory.mktemp("bert") / "masked"
    return write_bert(folder, drawn(lambda key: init_mlm(BERT, key)))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BertForSequenceClassification of three classes."""
    folder = tmp_path_factory.mktemp("bert") / "classifier"
    return write_bert(folder, drawn(lambda key: init_classifier(BERT, 3, key)), ("a", "b", "c"))


def begun(root: Path, task: str, data: Path, folder: Path) -> Path:
    """A run of one update that changes nothing."""
    content = CONFIG.format(task=task, data=str(data), cache=str(root / "cache"))
    (root / f"{task[:3]}.py").write_text(content)
    run = root / "run"
    arguments = ["--config", str(root / f"{task[:3]}.py"), "--workdir", str(run)]
    train.main([*arguments, "--init-from", f"hf:{folder}"])
    return run


def stored(folder: Path) -> dict[str, Any]:
    return tree.flatten(open_encoder_folder(folder, ENCODER.huggingface_names).params())


def assert_same(found: dict[str, Any], expected: dict[str, Any], names: set[str]) -> None:
    assert names
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-7, err_msg=name)


@pytest.mark.slow
def test_masked_language_modelling_continues_a_bert_which_comes_back(
    masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").mkdir()
    run = begun(tmp_path, "MlmConfig()", write_corpus(tmp_path / "text", 40), masked)
    said = " ".join(capsys.readouterr().out.split())
    assert "(BertForMaskedLM): encoder, mlm_head" in said
    assert "begin at random" not in said
    model = load_model(str(run), warn=pytest.fail)
    assert model.config.model == dataclasses.replace(BERT, remat="none")
    expected = stored(masked)
    assert_same(tree.flatten(model.params), expected, set(expected))
    export.main([str(run), "--format", "huggingface", "--out", str(tmp_path / "out")])
    for name in ("config.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / "out" / name).read_text()) == json.loads((masked / name).read_text())
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (about["architectures"], about["pad_token_id"]) == (["BertForMaskedLM"], 0)
    theirs, ours = (safetensors.numpy.load_file(f / "model.safetensors") for f in (masked, tmp_path / "out"))
    assert_same(ours, theirs, set(theirs))


def test_a_classification_takes_the_pooler_and_begins_a_new_head(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data have two classes."""
    run = begun(tmp_path, "ClassificationConfig()", write_tables(tmp_path / "tables", 60), classifier)
    said = " ".join(capsys.readouterr().out.split())
    assert "(BertForSequenceClassification): encoder, pooler" in said
    assert "has no classification_head for this task: new ones begin at random" in said
    found, expected = tree.flatten(load_model(str(run), warn=pytest.fail).params), stored(classifier)
    shared = {name for name in expected if not name.startswith("classification_head/")}
    assert_same(found, expected, shared)
    assert found.keys() == expected.keys()
    assert found["classification_head/output/kernel"].shape == (16, 2)
    start = json.loads(RunDir(run).environment.read_text())["starts"][0]
    assert start["init_from"] == f"hf:{classifier}"


@pytest.mark.interop
def test_transformers_reads_texts_and_classifies_them_as_we_do(classifier: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `interop`")
    transformers = pytest.importorskip("transformers", reason="needs the extra `interop`")
    run = begun(tmp_path, "ClassificationConfig()", write_tables(tmp_path / "tables", 60), classifier)
    small, out = tmp_path / "small", tmp_path / "out"
    compress.main([str(run), "--bits", "8", "--out", str(small)])
    export.main([str(small), "--format", "huggingface", "--out", str(out)])
    pairs = [("The kernel of a layer", "a kernel"), ("[SEP] unseen \u4e16", "model"), ("x", "weights " * 40)]
    model = load_model(str(small), warn=pytest.fail)
    ours = Classifier(model, Console(quiet=True))(pairs, lambda _: None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    assert type(theirs).__name__ == "BertForSequenceClassification"
    for pair, prediction in zip(pairs[:2], ours, strict=False):
        with torch.no_grad():
            logits = theirs(**tokenizer(*pair, return_tensors="pt")).logits
        expected = torch.softmax(logits, -1)[0].tolist()
        assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-5), pair


def test_a_missing_head_of_masked_language_modelling_begins_new_and_is_named(classifier: Path) -> None:
    begin, said = InitFromFolder(f"hf:{classifier}"), list[str]()
    config = begin.resolve(Config(data=DataConfig(sequence_length=16)))
    objective, mesh = kind_of(config).objective(config), make_mesh(config.mesh, jax.devices()[:1])

    def new() -> TrainState:
        return init_state(objective, config.optimizer, jax.random.key(0), mesh)[0]

    state = begin.initial(new(), config.mesh, new, said.append).state
    assert "(BertForSequenceClassification): encoder" in said[0]
    assert said[1:] == [
        f"hf:{classifier} has no mlm_head for this task: new ones begin at random",
        "not used by this task: pooler, classification_head",
    ]
    found, expected, fresh = tree.flatten(state.params), stored(classifier), tree.flatten(new().params)
    assert found.keys() == fresh.keys()
    for path, x in found.items():
        np.testing.assert_array_equal(x, expected[path] if path.startswith("encoder/") else fresh[path])


def test_the_config_must_go_with_the_folder(masked: Path, tmp_path: Path) -> None:
    begin, config = InitFromFolder(f"hf:{masked}"), Config(data=DataConfig(sequence_length=33))
    with pytest.raises(UserError, match="has 32 positions: set --data.sequence-length 32"):
        begin.resolve(config)
    resolved = begin.resolve(Config(data=DataConfig(sequence_length=16)))
    assert resolved.model == BERT
    assert resolved.data.tokenizer == str(masked / "tokenizer.json")
    with pytest.raises(UserError, match="copy the folder to a local disk first"):
        InitFromFolder("hf:gs://bucket/bert").check()
    (tmp_path / "config.json").write_text((masked / "config.json").read_text())
    for name in ("model.safetensors",):
        (tmp_path / name).write_bytes((masked / name).read_bytes())
    with pytest.raises(UserError, match=r"has no tokenizer.json to read .*: save the tokenizer there"):
        InitFromFolder(f"hf:{tmp_path}").resolve(Config(data=DataConfig(sequence_length=16)))


def test_tensors_of_another_shape_are_refused_before_they_are_read(masked: Path, tmp_path: Path) -> None:
    about = json.loads((masked / "config.json").read_text())
    tensors = safetensors.numpy.load_file(masked / "model.safetensors")
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    for key, value, shapes in (
        ("max_position_embeddings", 31, "position_embeddings.weight in .* is .32, 16., but .31, 16. by its"),
        ("vocab_size", 2**20, "word_embeddings.weight in .* is .210, 16., but .1048576, 16. by its"),
        ("intermediate_size", 25, "intermediate.dense.weight in .* is .24, 16., but .25, 16. by its"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**about, key: value}))
        with pytest.raises(UserError, match=f"bert.*{shapes} config.json: restore"):
            InitFromFolder(f"hf:{tmp_path}").check()
