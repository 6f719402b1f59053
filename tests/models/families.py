"""A small model of every family, for the conformance suite: a new family adds one here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlc_jax.config import EncoderDecoderConfig, ModelConfig, TransformerConfig
from tlc_jax.core.vocabulary import PAD, TRANSLATION_PAD

VOCAB, LENGTH = 50, 12
# heads that are together wider than the model, so that no width stands for another
_SIZE: dict[str, Any] = {
    "num_layers": 3,
    "hidden_size": 20,
    "head_size": 6,
    "num_heads": 5,
    "feed_forward_size": 28,
    "vocab_size": VOCAB,
}


@dataclass(frozen=True)
class Example:
    """A config; inputs [rows, length], the last of them what is predicted; which of them hold `pad`s behind
    their tokens."""

    config: TransformerConfig
    inputs: tuple[jax.Array, ...]
    padded: tuple[int, ...]
    pad: int


def _tokens(seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(5, VOCAB, (3, LENGTH)), jnp.int32)


EXAMPLES = {
    "encoder": Example(
        ModelConfig(**_SIZE, max_positions=16),
        (_tokens(0), jnp.asarray(np.random.default_rng(1).integers(0, 8, (3, 4)), jnp.int32)),
        (0,),
        PAD,
    ),
    "encoder-decoder": Example(
        EncoderDecoderConfig(**_SIZE), (_tokens(0), _tokens(1)), (0,), TRANSLATION_PAD
    ),
}
"""By the name of the family."""


def _stack(side: str, *attentions: str, attention_biases: bool) -> list[str]:
    """Paths and shapes of the layers of an encoder or a decoder, and of the norm after them."""
    lines: list[str] = []

    def norm(name: str) -> None:
        lines.extend(f"layers/{name}_norm/{part} 3x20" for part in ("scale", "bias"))

    def dense(name: str, inputs: int, outputs: int, biases: bool = True) -> None:
        lines.append(f"layers/{name}/kernel 3x{inputs}x{outputs}")
        lines.extend([f"layers/{name}/bias 3x{outputs}"] if biases else [])

    for attention in attentions:
        norm(attention)
        for projection in ("query", "key", "value"):
            dense(f"{attention}/{projection}", 20, 30, attention_biases)
        dense(f"{attention}/output", 30, 20, attention_biases)
    norm("feed_forward")
    dense("feed_forward/expand", 20, 28)
    dense("feed_forward/contract", 28, 20)
    return [f"{side}/{line}" for line in (*lines, "final_norm/scale 20", "final_norm/bias 20")]


PATHS = {
    "encoder": [
        "encoder/token_embedding 50x20",
        "encoder/position_embedding 18x20",
        "encoder/embedding_norm/scale 20",
        "encoder/embedding_norm/bias 20",
        *_stack("encoder", "attention", attention_biases=True),
        "mlm_head/dense/kernel 20x20",
        "mlm_head/dense/bias 20",
        "mlm_head/norm/scale 20",
        "mlm_head/norm/bias 20",
        "mlm_head/bias 50",
    ],
    "encoder-decoder": [
        "shared/token_embedding 50x20",
        *_stack("encoder", "attention", attention_biases=False),
        *_stack("decoder", "attention", "cross_attention", attention_biases=False),
    ],
}
"""The parameters, which are public: runs and artifacts hold them under these names."""
