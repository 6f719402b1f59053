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

A row may hold several pairs, as T2T packs them: segments number the pair of each token on both sides.
Positions count from the beginning of each pair, attention stays within it, and the shifted target begins
anew, so that the logits of a pair are those that it has in a row of its own.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.axes import shard_rows
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.layers import (
    RECORDED,
    Attention,
    FeedForward,
    at_least_float32,
    compute_dtype,
    handed_on,
    layer_norm,
    new_params,
    output,
    saved,
)
from tlc_jax.models.weights import Weight, gathered, in_dtype, product, rows, stored

SourceSegments = Int[Array, "batch others"] | None
TargetSegments = Int[Array, "batch length"] | None
"""The pair that each token belongs to: 1, 2, ..., and 0 at pads. None: each row is one pair."""

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


def positions_of(segments: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
    """How far each token is from the first one of its segment."""
    index = jnp.arange(segments.shape[1])[None]
    begins = segments != jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return index - jax.lax.cummax(jnp.where(begins, index, 0), axis=1)


def within(
    queries: Int[Array, "batch length"], keys: Int[Array, "batch others"]
) -> Bool[Array, "batch length others"]:
    """Whether a query and a key belong to the same segment."""
    return queries[:, :, None] == keys[:, None, :]


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
        memory_visible: Bool[Array, "batch #length others"] | None,
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
        return handed_on(self, x), None


class Stack(nn.Module):
    """Embedded input -> dropout -> layers -> normalised output."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        visible: Bool[Array, "#batch #length length"],
        memory: Float[Array, "batch others hidden"] | None = None,
        memory_visible: Bool[Array, "batch #length others"] | None = None,
        positions: Int[Array, "batch length"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch length hidden"]:
        config = self.config
        table = jnp.asarray(sinusoids(x.shape[1], config.hidden_size), compute_dtype(config))
        encoded = table[None] if positions is None else shard_rows(table[positions])
        x = Dropout(config.dropout, name="input_dropout")(x + encoded, train=train)
        layers = nn.scan(
            nn.remat(Block, policy=saved(config), prevent_cse=False, static_argnums=(5,)),
            variable_axes={"params": 0, RECORDED: 0},
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
        init = nn.initializers.normal(hidden**-0.5)
        self.token_embedding: Weight = stored(self, self.param, "token_embedding", init, shape)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length hidden"]:
        """Rows times sqrt(hidden), zero at pads."""
        dtype = compute_dtype(self.config)
        scale = (tokens != PAD)[:, :, None] * jnp.asarray(self.config.hidden_size**0.5, dtype)
        return shard_rows(rows(gathered(self.token_embedding), tokens).astype(dtype) * scale.astype(dtype))

    def logits(self, x: Float[Array, "batch length hidden"]) -> Float[Array, "batch length vocab"]:
        return product(x, gathered(in_dtype(self.token_embedding, x.dtype)), scores)


def scores(
    x: Float[Array, "batch length hidden"], embedding: Float[Array, "entries hidden"]
) -> Float[Array, "batch length entries"]:
    """Logits of entries of the vocabulary, in float32 at least."""
    return jnp.einsum("blh,vh->blv", x, embedding, preferred_element_type=at_least_float32(x.dtype))


class EncoderDecoder(nn.Module):
    """Logits of every target token given those before it and the source."""

    config: EncoderDecoderConfig

    def setup(self) -> None:
        self.shared = SharedEmbedding(self.config)
        self.encoder = Stack(self.config)
        self.decoder = Stack(self.config)

    def encode(
        self, source: Int[Array, "batch others"], segments: SourceSegments = None, *, train: bool
    ) -> Float[Array, "batch others hidden"]:
        x = self.shared(source)
        if segments is None:
            return self.encoder(x, (source != PAD)[:, None], train=train)
        return self.encoder(x, within(segments, segments), positions=positions_of(segments), train=train)

    def __call__(
        self,
        source: Int[Array, "batch others"],
        target: Int[Array, "batch length"],
        source_segments: SourceSegments = None,
        target_segments: TargetSegments = None,
        *,
        train: bool,
    ) -> Float[Array, "batch length vocab"]:
        memory = self.encode(source, source_segments, train=train)
        shifted = jnp.pad(self.shared(target)[:, :-1], ((0, 0), (1, 0), (0, 0)))
        visible, memory_visible = jnp.tri(target.shape[1], dtype=bool)[None], (source != PAD)[:, None]
        positions = None
        if source_segments is not None and target_segments is not None:
            positions = positions_of(target_segments)
            shifted = jnp.where((positions == 0)[:, :, None], 0, shifted)
            visible = visible & within(target_segments, target_segments)
            memory_visible = within(target_segments, source_segments)
        x = self.decoder(shifted, visible, memory, memory_visible, positions, train=train)
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
    source_segments: SourceSegments = None,
    target_segments: TargetSegments = None,
    *,
    dropout_key: jax.Array | None = None,
) -> Float[Array, "batch length vocab"]:
    """Logits in float32 (or float64) of target tokens, each given those before it. Sentences end with </s>,
    rows are padded with 0; with segments of both sides a row holds several pairs. With `dropout_key`, dropout
    is on (training)."""
    sides = (source, target, source_segments, target_segments)
    return output(EncoderDecoder(config), params, *sides, dropout_key=dropout_key)


def encode(
    config: EncoderDecoderConfig, params: dict[str, Any], source: Int[Array, "batch others"]
) -> Float[Array, "batch others hidden"]:
    """What the decoder attends to."""
    return output(EncoderDecoder(config), params, source, method=EncoderDecoder.encode)
