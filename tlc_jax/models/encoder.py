"""Pre-norm RoBERTa encoder with a masked-language-model head (paper 2.1; fairseq roberta, pre-norm).

Parameter paths, public and fixed (a leading axis stacks the layers):

    encoder/token_embedding                                [vocab, hidden], also the output matrix
    encoder/position_embedding                             [max_positions + 2, hidden]
    encoder/embedding_norm/{scale,bias}                    [hidden]
    encoder/layers/attention_norm/{scale,bias}             [layers, hidden]
    encoder/layers/attention/{query,key,value}/kernel      [layers, hidden, heads * head_size]
    encoder/layers/attention/output/kernel                 [layers, heads * head_size, hidden]
    encoder/layers/feed_forward_norm/{scale,bias}          [layers, hidden]
    encoder/layers/feed_forward/{expand,contract}/kernel   [layers, in, out]
    encoder/final_norm/{scale,bias}                        [hidden]
    mlm_head/{dense/kernel,dense/bias,norm/scale,norm/bias,bias}

and a bias beside each kernel. The embedding is normalised (fairseq at the paper's time, and Hugging
Face's RobertaPreLayerNorm); so is the last layer's output. Where layers share parameters (paper, Appendix
C), the shared arrays are there once: their leading axis has length 1.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.config import ModelConfig
from tlc_jax.core.axes import replicate, shard_rows
from tlc_jax.core.vocabulary import PAD
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.layers import (
    WHOLE,
    Attention,
    FeedForward,
    add_bias,
    compute_dtype,
    gelu,
    layer_norm,
    linear,
    new_params,
    output,
    saved,
)

_ATTENTION = ("attention_norm", "attention")
_PARTS = (*_ATTENTION, "feed_forward_norm", "feed_forward")


class Block(nn.Module):
    """x + drop(attention(norm(x))), then x + drop(feed_forward(norm(x)))."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        visible: Bool[Array, "batch #length length"],
        train: bool,
    ) -> tuple[Float[Array, "batch length hidden"], None]:
        config, init = self.config, nn.initializers.normal(self.config.stddev)
        y = layer_norm(config, "attention_norm")(x)
        attended = Attention(config, init, bias=True, name="attention")(y, y, visible, train)
        x = x + Dropout(config.dropout, name="attention_dropout")(attended, train=train)
        x = shard_rows(x)
        y = layer_norm(config, "feed_forward_norm")(x)
        fed = FeedForward(config, init, gelu, name="feed_forward")(y, train)
        x = x + Dropout(config.dropout, name="feed_forward_dropout")(fed, train=train)
        return shard_rows(x), None


class SharedBlocks(nn.Module):
    """`num_layers` blocks that share all parameters, or those of attention and its norm.

    Shared arrays are constants of the scan, so that neither they nor their gradient exist once for each
    layer, as they would if they were repeated to be scanned over. Linen's scan stacks whole collections, and
    these parameters are all of one.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        visible: Bool[Array, "batch #length length"],
        train: bool,
    ) -> tuple[Float[Array, "batch length hidden"], None]:
        config, block = self.config, Block(self.config, parent=None)
        once = _PARTS if config.shared_layers == "all" else _ATTENTION

        def draw(key: jax.Array, part: str) -> Any:
            """Parameters [1 or layers, ...] of one part, each layer's drawn as `Block` draws them."""
            keys = jax.random.split(key, 1 if part in once else config.num_layers)
            return jax.vmap(lambda key: block.init(key, x, visible, False)["params"][part])(keys)

        params = {part: self.param(part, draw, part) for part in _PARTS}
        shared = {part: jax.tree.map(lambda w: w[0], params[part]) for part in once}
        stacked = {part: params[part] for part in _PARTS if part not in once}

        def layer(x: jax.Array, each: tuple[dict[str, Any], jax.Array]) -> tuple[jax.Array, None]:
            unshared, key = each
            x, _ = block.apply({"params": shared | unshared}, x, visible, train, rngs={"dropout": key})
            return x, None

        key = self.make_rng("dropout") if train else jax.random.key(0)  # not used
        keys = jax.random.split(key, config.num_layers)
        return jax.lax.scan(
            jax.checkpoint(layer, policy=saved(config), prevent_cse=False), x, (stacked, keys)
        )


class Encoder(nn.Module):
    """Token ids to hidden states; also gives the logits of a tied output matrix."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        shapes = (config.vocab_size, config.hidden_size), (config.max_positions + PAD + 1, config.hidden_size)
        self.token_embedding = self.param("token_embedding", _embedding_init(config), shapes[0])
        self.position_embedding = self.param("position_embedding", _embedding_init(config), shapes[1])
        self.embedding_norm = layer_norm(config, "embedding_norm")
        self.embedding_dropout = Dropout(config.dropout)
        stack = nn.scan(
            nn.remat(Block, policy=saved(config), prevent_cse=False, static_argnums=(3,)),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),  # type: ignore[arg-type]
            length=config.num_layers,
        )
        self.layers = (stack if config.shared_layers == "none" else SharedBlocks)(config, name="layers")
        self.final_norm = layer_norm(config, "final_norm")

    def __call__(
        self, tokens: Int[Array, "batch length"], window: Int[Array, ""] | None = None, *, train: bool
    ) -> Float[Array, "batch length hidden"]:
        real = tokens != PAD
        # positions of tokens are counted from PAD + 1; row PAD of the embedding is that of pads
        positions = jnp.cumsum(real, axis=1) * real + PAD
        x = shard_rows(replicate(self.token_embedding)[tokens] + self.position_embedding[positions])
        x = self.embedding_norm(x.astype(compute_dtype(self.config)))
        x = self.embedding_dropout(x, train=train) * real[:, :, None].astype(x.dtype)
        visible = real[:, None, :]
        if window is not None:
            index = jnp.arange(tokens.shape[1])
            visible = visible & (jnp.abs(index[:, None] - index[None, :]) <= window)[None]
        x, _ = self.layers(x, visible, train)
        return self.final_norm(x)

    def logits(self, x: Float[Array, "batch slots hidden"]) -> Float[Array, "batch slots vocab"]:
        """x @ embedding.T, accumulated and returned in float32."""
        embedding = replicate(self.token_embedding.astype(x.dtype))
        return jnp.einsum("bsh,vh->bsv", x, embedding, preferred_element_type=jnp.float32)


class MlmHead(nn.Module):
    """Projects hidden states before the tied output matrix; owns the output bias."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch slots hidden"]
    ) -> tuple[Float[Array, "batch slots hidden"], Float[Array, "vocab"]]:
        config = self.config
        init = nn.initializers.normal(config.stddev)
        x = layer_norm(config, "norm")(gelu(linear(config, config.hidden_size, "dense", init, WHOLE)(x)))
        return x, self.param("bias", nn.initializers.zeros, (config.vocab_size,))


class MaskedLanguageModel(nn.Module):
    """Encoder and head; predicts at the given positions only."""

    config: ModelConfig

    def setup(self) -> None:
        self.encoder = Encoder(self.config)
        self.mlm_head = MlmHead(self.config)

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        positions: Int[Array, "batch slots"],
        window: Int[Array, ""] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch slots vocab"]:
        hidden = self.encoder(tokens, window, train=train)
        gathered = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
        projected, bias = self.mlm_head(gathered)
        return add_bias(self.encoder.logits(projected), bias)


def init_mlm(config: ModelConfig, key: jax.Array) -> dict[str, Any]:
    """Parameters of `MaskedLanguageModel`: a plain nested dict of float32 arrays (paths above)."""
    ids = jnp.zeros((1, 2), jnp.int32)
    return new_params(MaskedLanguageModel(config), key, ids, ids)


def apply_mlm(
    config: ModelConfig,
    params: dict[str, Any],
    tokens: Int[Array, "batch length"],
    positions: Int[Array, "batch slots"],
    *,
    dropout_key: jax.Array | None = None,
    window: Int[Array, ""] | None = None,
) -> Float[Array, "batch slots vocab"]:
    """Float32 logits of the tokens at `positions`. With `dropout_key`, dropout is on (training).

    With an attention `window`, a token attends to those at most this many positions away; without, to all of
    its row.
    """
    return output(MaskedLanguageModel(config), params, tokens, positions, window, dropout_key=dropout_key)


def _embedding_init(config: ModelConfig) -> nn.initializers.Initializer:
    normal = nn.initializers.normal(config.stddev)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return normal(key, shape, dtype).at[PAD].set(0.0)  # torch's padding_idx

    return init
