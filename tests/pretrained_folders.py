"""Folders of tiny encoders with random weights, as transformers saves them."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.data.encoder_tokenizers import bert as wordpiece
from tlc_jax.artifacts.huggingface import write_huggingface
from tlc_jax.config import ModelConfig
from tlc_jax.models.encoder import init_mlm
from tlc_jax.models.families import ENCODER

BERT = ModelConfig(
    architecture="bert",
    num_layers=2,
    hidden_size=16,
    head_size=8,
    feed_forward_size=24,
    vocab_size=210,  # more rows than the tokenizer has entries, as some checkpoints have
    max_positions=32,
    pad_id=0,
    position_offset=0,
    token_types=2,
    norm_epsilon=1e-12,
    dropout=0.05,
)
SPECIAL = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


def drawn(init: Any, seed: int = 0) -> dict[str, Any]:
    """Random parameters of the shapes that `init` makes."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), shapes)


@functools.cache
def _tokenizer() -> bytes:
    """The same of all folders: the library numbers equally frequent pieces as it happens to."""
    return wordpiece().to_str(pretty=True).encode()


def write_bert(
    folder: Path, params: dict[str, Any], labels: tuple[str, ...] = (), model: ModelConfig = BERT
) -> Path:
    """A folder of a BERT with its WordPiece tokenizer."""
    folder.mkdir()
    units, names = ENCODER.prunable_units(model), ENCODER.huggingface_names(model)
    write_huggingface(folder, params, model, _tokenizer(), names, units, labels, 0.0, SPECIAL)
    return folder


if __name__ == "__main__":  # for tests/fuzz.py
    longer = dataclasses.replace(BERT, max_positions=64)
    write_bert(Path(sys.argv[1]), drawn(lambda key: init_mlm(longer, key)), model=longer)
