"""A small config of every kind of task on generated data, for the conformance suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tests.builders import documents, write_corpus, write_pairs, write_tables
from tlc_jax.config import (
    BudgetConfig,
    ClassificationConfig,
    Config,
    DataConfig,
    EncoderDecoderConfig,
    MlmConfig,
    ModelConfig,
    PairsConfig,
    TranslationConfig,
)
from tlc_jax.data.tokenizer import train_tokenizer

VOCAB = 300
_ENCODER = ModelConfig(
    num_layers=1, hidden_size=16, head_size=8, vocab_size=VOCAB, max_positions=32, dropout=0.0
)


def _mlm(root: Path) -> Config:
    (root / "text").mkdir()
    data = DataConfig(dir=str(write_corpus(root / "text", 60)), sequence_length=32, held_out=0.2)
    return Config(model=_ENCODER, task=MlmConfig(), data=data, batch_size=16)


def _classification(root: Path) -> Config:
    train_tokenizer(documents(100), VOCAB).save(str(root / "tokenizer.json"))
    tables, tokenizer = write_tables(root / "tables", 120), root / "tokenizer.json"
    data = DataConfig(dir=str(tables), tokenizer=str(tokenizer), sequence_length=32, held_out=0.2)
    return Config(model=_ENCODER, task=ClassificationConfig(), data=data, batch_size=16)


def _translation(root: Path) -> Config:
    (root / "pairs").mkdir()
    data = PairsConfig(
        train="one.tsv=2,two.tsv.gz=1",
        validation="validation.tsv",
        test="test.tsv",
        dir=str(write_pairs(root / "pairs")),
        sequence_length=40,
        max_shapes=3,
    )
    model = EncoderDecoderConfig(num_layers=1, hidden_size=16, head_size=8, vocab_size=VOCAB, dropout=0.0)
    return Config(model=model, task=TranslationConfig(), data=data, batch_size=640)


CONFIGS: dict[str, Callable[[Path], Config]] = {
    "mlm": _mlm,
    "classification": _classification,
    "translation": _translation,
}
"""By the name of the kind; each writes its data into an empty folder."""


def config_of(kind: str, root: Path) -> Config:
    """A config whose prepared data are cached in the same folder."""
    config = CONFIGS[kind](root)
    data = dataclasses.replace(config.data, cache_dir=str(root / "cache"))
    return dataclasses.replace(config, data=data, budget=BudgetConfig(steps=4))
