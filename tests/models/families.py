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

PATHS = {
    "encoder": """
encoder/token_embedding 50x20
encoder/position_embedding 18x20
encoder/embedding_norm/scale 20
encoder/embedding_norm/bias 20
encoder/layers/attention_norm/scale 3x20
encoder/layers/attention_norm/bias 3x20
encoder/layers/attention/query/kernel 3x20x30
encoder/layers/attention/query/bias 3x30
encoder/layers/attention/key/kernel 3x20x30
encoder/layers/attention/key/bias 3x30
encoder/layers/attention/value/kernel 3x20x30
encoder/layers/attention/value/bias 3x30
encoder/layers/attention/output/kernel 3x30x20
encoder/layers/attention/output/bias 3x20
encoder/layers/feed_forward_norm/scale 3x20
encoder/layers/feed_forward_norm/bias 3x20
encoder/layers/feed_forward/expand/kernel 3x20x28
encoder/layers/feed_forward/expand/bias 3x28
encoder/layers/feed_forward/contract/kernel 3x28x20
encoder/layers/feed_forward/contract/bias 3x20
encoder/final_norm/scale 20
encoder/final_norm/bias 20
mlm_head/dense/kernel 20x20
mlm_head/dense/bias 20
mlm_head/norm/scale 20
mlm_head/norm/bias 20
mlm_head/bias 50
""",
    "encoder-decoder": """
shared/token_embedding 50x20
encoder/layers/attention_norm/scale 3x20
encoder/layers/attention_norm/bias 3x20
encoder/layers/attention/query/kernel 3x20x30
encoder/layers/attention/key/kernel 3x20x30
encoder/layers/attention/value/kernel 3x20x30
encoder/layers/attention/output/kernel 3x30x20
encoder/layers/feed_forward_norm/scale 3x20
encoder/layers/feed_forward_norm/bias 3x20
encoder/layers/feed_forward/expand/kernel 3x20x28
encoder/layers/feed_forward/expand/bias 3x28
encoder/layers/feed_forward/contract/kernel 3x28x20
encoder/layers/feed_forward/contract/bias 3x20
encoder/final_norm/scale 20
encoder/final_norm/bias 20
decoder/layers/attention_norm/scale 3x20
decoder/layers/attention_norm/bias 3x20
decoder/layers/attention/query/kernel 3x20x30
decoder/layers/attention/key/kernel 3x20x30
decoder/layers/attention/value/kernel 3x20x30
decoder/layers/attention/output/kernel 3x30x20
decoder/layers/cross_attention_norm/scale 3x20
decoder/layers/cross_attention_norm/bias 3x20
decoder/layers/cross_attention/query/kernel 3x20x30
decoder/layers/cross_attention/key/kernel 3x20x30
decoder/layers/cross_attention/value/kernel 3x20x30
decoder/layers/cross_attention/output/kernel 3x30x20
decoder/layers/feed_forward_norm/scale 3x20
decoder/layers/feed_forward_norm/bias 3x20
decoder/layers/feed_forward/expand/kernel 3x20x28
decoder/layers/feed_forward/expand/bias 3x28
decoder/layers/feed_forward/contract/kernel 3x28x20
decoder/layers/feed_forward/contract/bias 3x20
decoder/final_norm/scale 20
decoder/final_norm/bias 20
""",
}
"""The parameters, which are public: runs and artifacts hold them under these names."""
