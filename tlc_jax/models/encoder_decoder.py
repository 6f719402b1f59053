"""Pre-norm encoder-decoder for translation: Tensor2Tensor's transformer_base_v3 (paper 2.1).

Parameter paths, public and fixed (a leading axis stacks the layers):

    shared/token_embedding                                      [vocab, hidden]: source, target and output
    {encoder,decoder}/layers/attention_norm/{scale,bias}        [layers, hidden]
    {encoder,decoder}/layers/attention/{query,key,value}/kernel [layers, hidden, heads * head_size]
    {encoder,decoder}/layers/attention/output/kernel            [layers, heads * head_size, hidden]
    decoder/layers/cross_attention_norm, decoder/layers/cross_attention, as above
    {encoder,decoder}/layers/feed_forward_norm/{scale,bias}     [layers, hidden]
    {encoder,decoder}/layers/feed_forward/{expand,contract}/{kernel,bias}
    {encoder,decoder}/final_norm/{scale,bias}                   [hidden]

Attention has no biases, positions are sinusoids, embeddings are multiplied by sqrt(hidden) and are zero at
pads; the decoder sees the target shifted to the right behind a zero vector.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.axes import replicate, shard_rows
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.layers import (
    Attention,
    FeedForward,
    at_least_float32,
    compute_dtype,
    layer_norm,
    new_params,
    output,
    saved,
)

# T2T's initializer `uniform_unit_scaling` of gain 1
_UNIFORM = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def sinusoids(length: int, hidden: int) -> Float[np.ndarray, "length hidden"]:
    """T2T's table: sines in the first half of a row, cosines in the second, float64."""
    count = hidden // 2
    rates = 10000.0 ** (-np.arange(count) / max(count - 1, 1))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _norm(config: EncoderDecoderConfig, name: str) -> nn.LayerNorm:
    return layer_norm(config, name, config.norm_epsilon)


class Block(nn.Module):
    """One layer of either side: self-attention, in the decoder attention to `memory`, feed-forward; each
    x + drop(f(norm(x)))."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        visible: Bool[Array, "#batch #length length"],
        memory: Float[Array, "batch others hidden"] | None,
        memory_visible: Bool[Array, "batch 1 others"] | None,
        train: bool,
    ) -> tuple[Float[Array, "batch length hidden"], None]:
        config = self.config

        def drop(name: str, x: Array) -> Array:
            return shard_rows(Dropout(config.dropout, name=f"{name}_dropout")(x, train=train))

        y = _norm(config, "attention_norm")(x)
        attention = Attention(config, _UNIFORM, bias=False, name="attention")
        x = x + drop("attention", attention(y, y, visible, train))
        if memory is not None and memory_visible is not None:
            y = _norm(config, "cross_attention_norm")(x)
            cross = Attention(config, _UNIFORM, bias=False, name="cross_attention")
            x = x + drop("cross_attention", cross(y, memory, memory_visible, train))
        y = _norm(config, "feed_forward_norm")(x)
        feed_forward = FeedForward(
            config, _UNIFORM, jax.nn.relu, config.activation_dropout, name="feed_forward"
        )
        x = x + drop("feed_forward", feed_forward(y, train))
        return x, None


class Stack(nn.Module):
    """Embedded input -> dropout -> layers -> normalised output."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        visible: Bool[Array, "#batch #length length"],
        memory: Float[Array, "batch others hidden"] | None = None,
        memory_visible: Bool[Array, "batch 1 others"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch length hidden"]:
        config = self.config
        positions = jnp.asarray(sinusoids(x.shape[1], config.hidden_size), compute_dtype(config))
        x = Dropout(config.dropout, name="input_dropout")(x + positions[None], train=train)
        layers = nn.scan(
            nn.remat(Block, policy=saved(config), prevent_cse=False, static_argnums=(5,)),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast,) * 4,  # type: ignore[arg-type]
            length=config.num_layers,
        )
        x, _ = layers(config, name="layers")(x, visible, memory, memory_visible, train)
        return _norm(config, "final_norm")(x)


class SharedEmbedding(nn.Module):
    """One matrix for source tokens, target tokens and the output."""

    config: EncoderDecoderConfig

    def setup(self) -> None:
        hidden = self.config.hidden_size
        shape = (self.config.vocab_size, hidden)
        self.token_embedding = self.param("token_embedding", nn.initializers.normal(hidden**-0.5), shape)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length hidden"]:
        """Rows times sqrt(hidden), zero at pads."""
        dtype = compute_dtype(self.config)
        scale = (tokens != PAD)[:, :, None] * jnp.asarray(self.config.hidden_size**0.5, dtype)
        return shard_rows(replicate(self.token_embedding)[tokens].astype(dtype) * scale.astype(dtype))

    def logits(self, x: Float[Array, "batch length hidden"]) -> Float[Array, "batch length vocab"]:
        embedding = replicate(self.token_embedding.astype(x.dtype))
        return jnp.einsum("blh,vh->blv", x, embedding, preferred_element_type=at_least_float32(x.dtype))


class EncoderDecoder(nn.Module):
    """Logits of every target token given those before it and the source."""

    config: EncoderDecoderConfig

    def setup(self) -> None:
        self.shared = SharedEmbedding(self.config)
        self.encoder = Stack(self.config)
        self.decoder = Stack(self.config)

    def encode(
        self, source: Int[Array, "batch others"], *, train: bool
    ) -> Float[Array, "batch others hidden"]:
        return self.encoder(self.shared(source), (source != PAD)[:, None], train=train)

    def __call__(
        self, source: Int[Array, "batch others"], target: Int[Array, "batch length"], *, train: bool
    ) -> Float[Array, "batch length vocab"]:
        memory = self.encode(source, train=train)
        shifted = jnp.pad(self.shared(target)[:, :-1], ((0, 0), (1, 0), (0, 0)))
        causal = jnp.tri(target.shape[1], dtype=bool)[None]
        x = self.decoder(shifted, causal, memory, (source != PAD)[:, None], train=train)
        return self.shared.logits(x)


def init_encoder_decoder(config: EncoderDecoderConfig, key: jax.Array) -> dict[str, Any]:
    """Parameters of `EncoderDecoder`: a plain nested dict of float32 arrays (paths above)."""
    ids = jnp.ones((1, 2), jnp.int32)
    return new_params(EncoderDecoder(config), key, ids, ids)


def apply_encoder_decoder(
    config: EncoderDecoderConfig,
    params: dict[str, Any],
    source: Int[Array, "batch others"],
    target: Int[Array, "batch length"],
    *,
    dropout_key: jax.Array | None = None,
) -> Float[Array, "batch length vocab"]:
    """Logits in float32 (or float64) of target tokens, each given those before it. Both sides end with </s>
    and are padded with 0. With `dropout_key`, dropout is on (training)."""
    return output(EncoderDecoder(config), params, source, target, dropout_key=dropout_key)


def encode(
    config: EncoderDecoderConfig, params: dict[str, Any], source: Int[Array, "batch others"]
) -> Float[Array, "batch others hidden"]:
    """What the decoder attends to."""
    return output(EncoderDecoder(config), params, source, method=EncoderDecoder.encode)
