"""A classifier of pairs with the tokenizer of another encoder: in its run, its artifact and its predictions,
rows are those of the tokenizer's library."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Int

import tlc_jax
from tests.builders import documents, write_corpus, write_tables
from tests.data.encoder_tokenizers import bert, encode, library, write
from tlc_jax import compress, export, train
from tlc_jax.config import ModelConfig
from tlc_jax.core.errors import UserError
from tlc_jax.models.classifier import apply_classifier
from tlc_jax.runs.load import load_model

CONFIG = """
from tlc_jax.config import *

def get_config():
    return Config(
        model=ModelConfig(architecture="bert", num_layers=1, hidden_size=32, head_size=8, vocab_size={size},
                          max_positions=48, pad_id=0, position_offset=0, token_types=2,
                          initializer_stddev=0.5),
        task={task}(),
        data=DataConfig(sequence_length=48, held_out=0.1{tokenizer}),
        optimizer=OptimizerConfig(learning_rate=1e-2),
        budget=BudgetConfig(steps=3),
        batch_size=8,
    )
"""
LINES = [text.split("\n") for text in documents(12, seed=3)]
PAIRS = [*((first, second) for first, second, *_ in LINES), ("a [SEP] b", "[PAD] of [CLS]")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run, and its artifact."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = write(bert(), folder / "tokenizer")
    write_tables(folder / "tables", 60)
    size = library(tokenizer).get_vocab_size()
    given = f', tokenizer="{tokenizer}"'
    (folder / "config.py").write_text(CONFIG.format(size=size, task="ClassificationConfig", tokenizer=given))
    (folder / "mlm.py").write_text(CONFIG.format(size=size, task="MlmConfig", tokenizer=""))
    train.main(["--config", str(folder / "config.py"), "--data.dir", str(folder / "tables"),
                "--workdir", str(folder / "run")])  # fmt: skip
    tlc_jax.load(folder / "run").compress(folder / "artifact", bits=8)
    return folder


def padded(rows: list[list[int]]) -> Int[Array, "pairs length"]:
    return jnp.array([row + [0] * (48 - len(row)) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run", "artifact"])
def test_predictions_are_those_of_the_librarys_rows(folder: Path, name: str) -> None:
    tokenizer = library(folder / "tokenizer" / "tokenizer.json")
    tokenizer.encode_special_tokens = True
    tokenizer.enable_truncation(max_length=48)
    rows = [encode(tokenizer, pair) for pair in PAIRS]
    tokens, types = padded([row.ids for row in rows]), padded([row.type_ids for row in rows])
    model = load_model(str(folder / name), warn=pytest.fail)
    config = model.config.model
    assert isinstance(config, ModelConfig)

    def probabilities(types: Int[Array, "pairs length"] | None) -> np.ndarray:
        logits = apply_classifier(config, model.params, tokens, classes=2, token_types=types)
        return np.asarray(jax.nn.softmax(logits))

    predicted = [[*each.probabilities.values()] for each in tlc_jax.load(folder / name).predict(PAIRS)]
    np.testing.assert_allclose(predicted, probabilities(types), atol=2e-6)
    assert np.abs(predicted - probabilities(None)).max() > 1e-3, "token types matter"


@pytest.mark.slow
def test_a_trimmed_vocabulary_predicts_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On pairs of its training data, whose texts have the same tokens."""
    options = ["--config", "trim_vocabulary", "--bits", "32"]
    compress.main([str(folder / "run"), *options, "--out", str(folder / "trimmed")])
    rows = (folder / "tables" / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [(first, second) for first, second, _ in (row.split("\t") for row in rows)]
    expected, found = (tlc_jax.load(folder / name).predict(pairs) for name in ("run", "trimmed"))
    config = load_model(str(folder / "trimmed"), warn=pytest.fail).config.model
    tuning = re.search(
        r"tuning: ([\d,]+) of ([\d,]+) tokens are gone", " ".join(capsys.readouterr().out.split())
    )
    assert tuning
    same = [a.probabilities == b.probabilities for a, b in zip(expected, found, strict=True)]
    assert config.vocab_size < library(folder / "tokenizer" / "tokenizer.json").get_vocab_size()
    assert sum(same) >= len(pairs) - 6, "those held out may have other tokens"
    export.main([str(folder / "trimmed"), "--format", "huggingface", "--out", str(folder / "exported")])
    tokenizer = library(folder / "exported" / "tokenizer.json")
    about = json.loads((folder / "exported" / "config.json").read_text(encoding="utf-8"))
    assert about["vocab_size"] == tokenizer.get_vocab_size() == config.vocab_size
    assert about["pad_token_id"] == tokenizer.token_to_id("[PAD]")


@pytest.mark.slow
def test_its_run_goes_on_and_others_begin_with_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A masked language model takes the tokenizer of the run, though it loses text; a new one does not."""
    train.main(["--workdir", str(folder / "run")])
    (folder / "text").mkdir()
    text = ["--config", str(folder / "mlm.py"), "--data.dir", str(write_corpus(folder / "text", 30))]
    train.main([*text, "--init-from", str(folder / "artifact"), "--workdir", str(folder / "mlm")])
    assert "nats_per_byte" in capsys.readouterr().out
    names = (folder / "mlm" / "special_tokens_map.json").read_text()
    assert names == (folder / "run" / "special_tokens_map.json").read_text()
    tokenizer = str(folder / "run" / "tokenizer.json")
    with pytest.raises(UserError, match="does not keep every text: it is a WordPiece model"):
        train.main([*text, "--data.tokenizer", tokenizer, "--workdir", str(folder / "new")])
