"""Classification heads on the encoder, which read the state of the first token.

encoder/...                                            as in `encoder.py`
pooler/dense/{kernel,bias}                             [hidden, hidden], [hidden], in BERT
classification_head/dense/{kernel,bias}                [hidden, hidden], [hidden], elsewhere
classification_head/output/{kernel,bias}               [hidden, classes], [classes]

RoBERTa (fairseq RobertaClassificationHead)            drop, dense, tanh, drop, output
BERT                                                   dense, tanh, drop, output
DistilBERT                                             dense, relu, drop, output

BERT's dense layer is its pooler, which is part of a pretrained checkpoint and therefore not of the head.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlc_jax.config import ModelConfig
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.encoder import Encoder
from tlc_jax.models.layers import compute_dtype, matmul, new_params, output
from tlc_jax.models.weights import Linear, product, promoted


class Pooler(nn.Module):
    """dense -> tanh."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "batch hidden"]) -> Float[Array, "batch hidden"]:
        return _tanh(_linear(self.config, x.shape[-1], "dense")(x))


class ClassificationHead(nn.Module):
    """What is behind the state of the first token, or behind the pooler."""

    config: ModelConfig
    classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch hidden"], *, train: bool) -> Float[Array, "batch classes"]:
        if self.config.architecture == "distilbert":
            x = jax.nn.relu(_linear(self.config, x.shape[-1], "dense")(x))
        elif self.config.architecture != "bert":
            x = Dropout(self.dropout, name="dense_dropout")(x, train=train)
            x = _tanh(_linear(self.config, x.shape[-1], "dense")(x))
        x = Dropout(self.dropout, name="output_dropout")(x, train=train)
        return _linear(self.config, self.classes, "output")(x).astype(jnp.float32)


class Classifier(nn.Module):
    """Encoder, in BERT its pooler, and head; one row of logits an example."""

    config: ModelConfig
    classes: int
    head_dropout: float

    def setup(self) -> None:
        self.encoder = Encoder(self.config)
        if self.config.architecture == "bert":
            self.pooler = Pooler(self.config)
        self.classification_head = ClassificationHead(self.config, self.classes, self.head_dropout)

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        token_types: Int[Array, "batch length"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch classes"]:
        first = self.encoder(tokens, None, token_types, train=train)[:, 0]
        if self.config.architecture == "bert":
            first = self.pooler(first)
        return self.classification_head(first, train=train)


def init_classifier(config: ModelConfig, classes: int, key: jax.Array) -> dict[str, Any]:
    """Parameters of `Classifier`: a plain nested dict of float32 arrays."""
    ids = jnp.zeros((1, 2), jnp.int32)
    return new_params(Classifier(config, classes, 0.0), key, ids)


def apply_classifier(
    config: ModelConfig,
    params: dict[str, Any],
    tokens: Int[Array, "batch length"],
    *,
    classes: int,
    head_dropout: float = 0.0,
    dropout_key: jax.Array | None = None,
    token_types: Int[Array, "batch length"] | None = None,
) -> Float[Array, "batch classes"]:
    """Float32 logits. With `dropout_key`, dropout is on (training). A model without token types takes no
    notice of `token_types`."""
    model = Classifier(config, classes, head_dropout)
    return output(model, params, tokens, token_types, dropout_key=dropout_key)


def _linear(config: ModelConfig, features: int, name: str) -> nn.Dense:
    """With the initial values of the program that the head is from: torch's default in fairseq, BERT's normal
    ones with biases of 0."""
    bert = config.architecture in ("bert", "distilbert")
    uniform = _torch_uniform(config.hidden_size)
    return Linear(
        features,
        dtype=compute_dtype(config),
        kernel_init=nn.initializers.normal(config.stddev) if bert else uniform,
        bias_init=nn.initializers.zeros if bert else uniform,
        promote_dtype=promoted,
        dot_general=lambda x, kernel, dimensions, precision=None: product(x, kernel, matmul),
        name=name,
    )


def _tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.tanh(x.astype(jnp.float32)).astype(x.dtype)


def _torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for kernel and bias: torch.nn.Linear's own."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
