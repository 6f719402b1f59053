"""RoBERTa and BERT encoders with a masked-language-model head (paper 2.1; fairseq roberta, pre-norm).

Parameter paths, public and fixed (a leading axis stacks the layers):

    encoder/token_embedding                                [vocab, hidden], also the output matrix
    encoder/position_embedding                             [position_offset + max_positions, hidden]
    encoder/token_type_embedding                           [token_types, hidden], if there are any
    encoder/embedding_norm/{scale,bias}                    [hidden]
    encoder/layers/attention_norm/{scale,bias}             [layers, hidden]
    encoder/layers/attention/{query,key,value}/kernel      [layers, hidden, heads * head_size]
    encoder/layers/attention/output/kernel                 [layers, heads * head_size, hidden]
    encoder/layers/feed_forward_norm/{scale,bias}          [layers, hidden]
    encoder/layers/feed_forward/{expand,contract}/kernel   [layers, in, out]
    encoder/final_norm/{scale,bias}                        [hidden], pre-norm only
    mlm_head/{dense/kernel,dense/bias,norm/scale,norm/bias,bias}
    mlm_head/output_embedding                              [vocab, hidden], if the output is not tied

and a bias beside each kernel. `model.architecture` says where the norms are: before each sub-layer and
behind the last (the paper's), or after each residual sum (BERT, RoBERTa). The embedding is normalised in all
of them. Where layers share parameters (paper, Appendix C), the shared arrays are there once: their leading
axis has length 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.config import ModelConfig
from tlc_jax.core.axes import shard_rows
from tlc_jax.models.dropout import Dropout
from tlc_jax.models.layers import (
    RECORDED,
    WHOLE,
    Attention,
    FeedForward,
    add_bias,
    compute_dtype,
    gelu,
    handed_on,
    layer_norm,
    linear,
    new_params,
    output,
    saved,
)
from tlc_jax.models.weights import Weight, expanded, gathered, in_dtype, product, rows, stored

_ATTENTION = ("attention_norm", "attention")
_PARTS = (*_ATTENTION, "feed_forward_norm", "feed_forward")


class Block(nn.Module):
    """x + drop(attention(norm(x))), then x + drop(feed_forward(norm(x))); post-norm: norm(x +
    drop(attention(x))), then norm(x + drop(feed_forward(x)))."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length hidden"],
        visible: Bool[Array, "batch #length length"],
        train: bool,
    ) -> tuple[Float[Array, "batch length hidden"], None]:
        config, init = self.config, nn.initializers.normal(self.config.stddev)

        def add(name: str, f: Callable[[Array], Array], rate: float, x: Array) -> Array:
            norm, drop = _norm(config, f"{name}_norm"), Dropout(rate, name=f"{name}_dropout")
            if config.pre_norm:
                return shard_rows(x + drop(f(norm(x)), train=train))
            return shard_rows(norm(x + drop(f(x), train=train)))

        attention = Attention(config, init, bias=True, name="attention")
        x = add("attention", lambda y: attention(y, y, visible, train), config.attention_output_dropout, x)
        feed_forward = FeedForward(config, init, gelu, name="feed_forward")
        x = add("feed_forward", lambda y: feed_forward(y, train), config.dropout, x)
        return handed_on(self, x), None


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

        params = {part: stored(self, self.param, part, draw, part) for part in _PARTS}
        shared = {part: jax.tree.map(lambda w: w[0], params[part]) for part in once}
        stacked = {part: params[part] for part in _PARTS if part not in once}

        def layer(x: jax.Array, each: tuple[dict[str, Any], jax.Array]) -> tuple[jax.Array, dict[str, Any]]:
            unshared, key = each
            variables, rngs = {"params": shared | unshared}, {"dropout": key}
            (x, _), recorded = block.apply(variables, x, visible, train, rngs=rngs, mutable=[RECORDED])
            sums: Any = recorded.get(RECORDED, {})
            return x, sums

        key = self.make_rng("dropout") if train else jax.random.key(0)  # not used
        keys = jax.random.split(key, config.num_layers)
        scanned = jax.checkpoint(layer, policy=saved(config), prevent_cse=False)
        x, recorded = jax.lax.scan(scanned, x, (stacked, keys))
        for part, values in recorded.items():
            self.put_variable(RECORDED, part, values)
        return x, None


class Encoder(nn.Module):
    """Token ids to hidden states."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.token_embedding = self._table("token_embedding", config.vocab_size, pad=True)
        rows = config.max_positions + config.position_offset
        self.position_embedding = self._table("position_embedding", rows, pad=config.position_offset > 0)
        if config.token_types:
            self.token_type_embedding = self._table("token_type_embedding", config.token_types, pad=False)
        self.embedding_norm = _norm(config, "embedding_norm")
        self.embedding_dropout = Dropout(config.dropout)
        stack = nn.scan(
            nn.remat(Block, policy=saved(config), prevent_cse=False, static_argnums=(3,)),
            variable_axes={"params": 0, RECORDED: 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(nn.broadcast, nn.broadcast),  # type: ignore[arg-type]
            length=config.num_layers,
        )
        self.layers = (stack if config.shared_layers == "none" else SharedBlocks)(config, name="layers")
        if config.pre_norm:
            self.final_norm = _norm(config, "final_norm")

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        window: Int[Array, ""] | None = None,
        token_types: Int[Array, "batch length"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch length hidden"]:
        real = tokens != self.config.pad_id
        x = self.embedded(tokens, real, token_types)
        x = self.embedding_norm(x.astype(compute_dtype(self.config)))
        x = self.embedding_dropout(x, train=train) * real[:, :, None].astype(x.dtype)
        visible = real[:, None, :]
        if window is not None:
            index = jnp.arange(tokens.shape[1])
            visible = visible & (jnp.abs(index[:, None] - index[None, :]) <= window)[None]
        x, _ = self.layers(x, visible, train)
        return self.final_norm(x) if self.config.pre_norm else x

    def embedded(
        self,
        tokens: Int[Array, "batch length"],
        real: Bool[Array, "batch length"],
        token_types: Int[Array, "batch length"] | None,
    ) -> Float[Array, "batch length hidden"]:
        """The sum of the rows of all tables. Without ids, every token is of type 0."""
        config = self.config
        if config.position_offset:
            # RoBERTa counts tokens from pad + 1; row pad of the embedding is that of pads
            positions = jnp.cumsum(real, axis=1) * real + config.pad_id
        else:
            positions = jnp.arange(tokens.shape[1])[None]
        x = shard_rows(
            rows(gathered(self.token_embedding), tokens) + rows(self.position_embedding, positions)
        )
        if config.token_types:
            table = expanded(self.token_type_embedding)
            x = shard_rows(x + (table[None, :1] if token_types is None else table[token_types]))
        return x

    def _table(self, name: str, rows: int, pad: bool) -> Weight:
        shape = (rows, self.config.hidden_size)
        return stored(self, self.param, name, _embedding_init(self.config, pad), shape)


class MlmHead(nn.Module):
    """Projects hidden states before the output matrix, which is the embedding or part of the head; owns the
    output bias."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch slots hidden"], embedding: Weight
    ) -> Float[Array, "batch slots vocab"]:
        """`embedding` is the table of tokens [vocab, hidden]."""
        config = self.config
        init = nn.initializers.normal(config.stddev)
        x = _norm(config, "norm")(gelu(linear(config, config.hidden_size, "dense", init, WHOLE)(x)))
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))
        if not config.tied_output:
            shape = (config.vocab_size, config.hidden_size)
            embedding = stored(self, self.param, "output_embedding", init, shape)
        logits = product(x, gathered(in_dtype(embedding, x.dtype)), _scores)
        return add_bias(logits, bias)


def _scores(
    x: Float[Array, "batch slots hidden"], matrix: Float[Array, "entries hidden"]
) -> Float[Array, "batch slots entries"]:
    """Accumulated and returned in float32."""
    return jnp.einsum("bsh,vh->bsv", x, matrix, preferred_element_type=jnp.float32)


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
        token_types: Int[Array, "batch length"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch slots vocab"]:
        hidden = self.encoder(tokens, window, token_types, train=train)
        gathered = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
        return self.mlm_head(gathered, self.encoder.token_embedding)


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
    token_types: Int[Array, "batch length"] | None = None,
) -> Float[Array, "batch slots vocab"]:
    """Float32 logits of the tokens at `positions`. With `dropout_key`, dropout is on (training).

    With an attention `window`, a token attends to those at most this many positions away; without, to all of
    its row. A model without token types takes no notice of `token_types`.
    """
    inputs = (tokens, positions, window, token_types)
    return output(MaskedLanguageModel(config), params, *inputs, dropout_key=dropout_key)


def encode(
    config: ModelConfig,
    params: dict[str, Any],
    tokens: Int[Array, "batch length"],
    token_types: Int[Array, "batch length"] | None = None,
) -> Float[Array, "batch length hidden"]:
    """Hidden states of the last layer, of `params["encoder"]`; what is at pads means nothing."""
    return output(Encoder(config), params["encoder"], tokens, None, token_types)


def _norm(config: ModelConfig, name: str) -> nn.LayerNorm:
    return layer_norm(config, name, config.norm_epsilon)


def _embedding_init(config: ModelConfig, pad: bool) -> nn.initializers.Initializer:
    """Normal values; with `pad`, zeros in the row of the pad (torch's padding_idx)."""
    normal = nn.initializers.normal(config.stddev)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        drawn = normal(key, shape, dtype)
        return drawn.at[config.pad_id].set(0.0) if pad else drawn

    return init
