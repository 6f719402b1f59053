"""A classification head on the encoder (fairseq RobertaClassificationHead): reads the state of <s>.

encoder/...                                            as in `encoder.py`
classification_head/dense/{kernel,bias}                [hidden, hidden], [hidden]
classification_head/output/{kernel,bias}               [hidden, classes], [classes]
"""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlc_jax.config import ModelConfig
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.encoder import Encoder
from tlc_jax.models.layers import compute_dtype, matmul, new_params, output


class ClassificationHead(nn.Module):
    """dropout -> dense -> tanh -> dropout -> output, with torch's default initial values (fairseq)."""

    config: ModelConfig
    classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch hidden"], *, train: bool) -> Float[Array, "batch classes"]:
        linear = functools.partial(
            nn.Dense,
            dtype=compute_dtype(self.config),
            kernel_init=_torch_uniform(x.shape[-1]),
            bias_init=_torch_uniform(x.shape[-1]),
            dot_general=lambda x, kernel, dimensions, precision=None: matmul(x, kernel),
        )
        x = Dropout(self.dropout, name="dense_dropout")(x, train=train)
        x = jnp.tanh(linear(x.shape[-1], name="dense")(x).astype(jnp.float32)).astype(x.dtype)
        x = Dropout(self.dropout, name="output_dropout")(x, train=train)
        return linear(self.classes, name="output")(x).astype(jnp.float32)


class Classifier(nn.Module):
    """Encoder and head; one row of logits an example."""

    config: ModelConfig
    classes: int
    head_dropout: float

    def setup(self) -> None:
        self.encoder = Encoder(self.config)
        self.classification_head = ClassificationHead(self.config, self.classes, self.head_dropout)

    def __call__(self, tokens: Int[Array, "batch length"], *, train: bool) -> Float[Array, "batch classes"]:
        hidden = self.encoder(tokens, train=train)
        return self.classification_head(hidden[:, 0], train=train)


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
) -> Float[Array, "batch classes"]:
    """Float32 logits. With `dropout_key`, dropout is on (training)."""
    return output(Classifier(config, classes, head_dropout), params, tokens, dropout_key=dropout_key)


def _torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for kernel and bias: torch.nn.Linear's own."""
    bound = fan_in**-0.5

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
