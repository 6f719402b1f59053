"""The decoder one token at a time, with cached keys and values: pure functions on the parameters.

`apply_encoder_decoder` computes every position at once, for training; this gives the same logits a position
at a time. Layers are unstacked and keys and values of the source are computed once, before any loop over
positions; they are shared by all hypotheses of a sentence.

Keys and values of the target are shared too: every hypothesis writes its own once, and none is ever moved. A
small table of ancestors says which of them a hypothesis descends from; attention is a product of all
hypotheses with all keys of the sentence, of which each sees those of its ancestors. Moving the cache whenever
hypotheses change their order, as is usual, would write all of it in each step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.models.encoder_decoder import encode, scores, sinusoids
from tlc_jax.models.layers import at_least_float32, compute_dtype
from tlc_jax.models.weights import (
    Layers,
    Weight,
    in_dtype,
    is_packed,
    of_each,
    product,
    rows,
    side_by_side,
    through,
)
from tlc_jax.models.weights import layers as unstacked


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prepared:
    """What all steps share: the parameters of each layer and its keys and values of the source
    [batch, heads, others, head_size], as `of_each` has them; which source tokens are no pads, positions, the
    embedding."""

    layers: Layers
    final_norm: Params
    cross: Any
    visible: Bool[Array, "batch others"]
    positions: Float[Array, "length hidden"]
    embedding: Weight


def prepare(
    config: EncoderDecoderConfig, params: Params, source: Int[Array, "batch others"], length: int
) -> Prepared:
    """Encodes the source. `length` is the longest that a translation can be."""
    with jax.named_scope("encode"):
        memory = encode(config, params, source)
    dtype = compute_dtype(config)
    stacked = jax.tree.map(lambda w: in_dtype(w, dtype), params["decoder"]["layers"], is_leaf=is_packed)
    layers = unstacked(stacked, config.num_layers, _with_one_product)

    def cross(layer: Params) -> tuple[Array, ...]:
        kernels = (layer["cross_attention"][name]["kernel"] for name in ("key", "value"))
        return tuple(_heads(config, product(memory, w)).transpose(0, 2, 1, 3) for w in kernels)

    return Prepared(
        layers,
        params["decoder"]["final_norm"],
        of_each(layers, cross),
        source != PAD,
        jnp.asarray(sinusoids(length, config.hidden_size), dtype),
        in_dtype(params["shared"]["token_embedding"], dtype),
    )


def _with_one_product(layer: Params) -> Params:
    """A layer with one kernel instead of three for queries, keys and values."""
    kernels = [layer["attention"][name]["kernel"] for name in ("query", "key", "value")]
    return {**layer, "query_key_value": side_by_side(kernels)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cache:
    """For each layer, as `of_each` has them, keys [batch, heads, head_size, length x beams] and values
    [batch, heads, length x beams, head_size]: hypothesis j wrote those of position t at index t x beams + j.
    `ancestors` has, for each hypothesis and position t, the index of the hypothesis that it was then."""

    kept: Any
    ancestors: Int[Array, "batch beams length"]


def empty_cache(config: EncoderDecoderConfig, prepared: Prepared, beams: int, length: int) -> Cache:
    """Room for keys and values of `length` positions of every hypothesis."""
    batch, heads, size = len(prepared.visible), config.heads, config.head_size
    keys, values = (batch, heads, size, length * beams), (batch, heads, length * beams, size)
    dtype = prepared.positions.dtype
    kept = of_each(prepared.layers, lambda _: (jnp.zeros(keys, dtype), jnp.zeros(values, dtype)))
    return Cache(kept, jnp.zeros((batch, beams, length), jnp.int32))


def grown(cache: Cache, length: int) -> Cache:
    """The same with room for `length` positions."""
    _, beams, before = cache.ancestors.shape

    def longer(x: Array, axis: int, by: int) -> Array:
        return jnp.pad(x, [(0, by if i == x.ndim + axis else 0) for i in range(x.ndim)])

    def grow(pair: tuple[Array, Array]) -> tuple[Array, Array]:
        more = (length - before) * beams
        return longer(pair[0], -1, more), longer(pair[1], -2, more)

    kept = jax.tree.map(grow, cache.kept, is_leaf=lambda node: isinstance(node, tuple))
    return Cache(kept, longer(cache.ancestors, -1, length - before))


def reordered(cache: Cache, parents: Int[Array, "batch beams"]) -> Cache:
    """The cache of hypotheses that continue those with the indices `parents`."""
    return Cache(cache.kept, jnp.take_along_axis(cache.ancestors, parents[:, :, None], axis=1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sentences:
    """What each sentence of a batch has of its own: keys and values of its source, which of its tokens are no
    pads, and its cache. What a search carries from step to step."""

    cross: Any
    visible: Bool[Array, "batch others"]
    cache: Cache

    def step(
        self,
        config: EncoderDecoderConfig,
        prepared: Prepared,
        tokens: Int[Array, "batch beams"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "batch beams vocab"], Sentences]:
        """`step` for these sentences."""
        of_these = dataclasses.replace(prepared, cross=self.cross, visible=self.visible)
        logits, cache = step(config, of_these, self.cache, tokens, position)
        return logits, dataclasses.replace(self, cache=cache)

    def with_cache(self, change: Callable[..., Cache], *arguments: Any) -> Sentences:
        """The same with a changed cache: `reordered` or `grown`."""
        return dataclasses.replace(self, cache=change(self.cache, *arguments))

    def rows(self, chosen: Int[Array, "chosen"]) -> Sentences:
        """Some of the sentences."""

        def of_layers(layers: Any) -> Any:
            axis = 0 if isinstance(layers, list) else 1  # after that of the layers
            return jax.tree.map(lambda x: jnp.take(x, chosen, axis=axis), layers)

        cache = Cache(of_layers(self.cache.kept), self.cache.ancestors[chosen])
        return Sentences(of_layers(self.cross), self.visible[chosen], cache)


def step(
    config: EncoderDecoderConfig,
    prepared: Prepared,
    cache: Cache,
    tokens: Int[Array, "batch beams"],
    position: Int[Array, ""],
) -> tuple[Float[Array, "batch beams vocab"], Cache]:
    """Logits of the token at `position`, given the one before it (PAD at 0), and the cache with it."""
    dtype = prepared.positions.dtype
    x = rows(prepared.embedding, tokens).astype(dtype) * jnp.asarray(config.hidden_size**0.5, dtype)
    x = jnp.where((tokens != PAD)[:, :, None], x, 0) + prepared.positions[position][None, None]
    here = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :, None], (*tokens.shape, 1))
    ancestors = jax.lax.dynamic_update_slice_in_dim(cache.ancestors, here, position, axis=2)
    visible = _descends(ancestors, position)
    at = position * tokens.shape[1]

    def advance(layer: Params, index: Any, x: Array, states: Any) -> tuple[Array, Any]:
        (keys, values), cross = states
        y = _norm(config, layer["attention_norm"], x)
        with jax.named_scope("self_attention"):
            query, key, value = (
                _heads(config, part).transpose(0, 2, 1, 3)
                for part in jnp.split(product(y, layer["query_key_value"]), 3, axis=-1)
            )
            keys = _written(keys, key.transpose(0, 1, 3, 2), index, at, axis=3)
            values = _written(values, value, index, at, axis=2)
            keys, values = jax.lax.optimization_barrier((keys, values))  # updated in place once, then read
            seen = _scores(config, "bhkd,bhdn->bhkn", query, _of(keys, index))
            weights = _softmax(seen, visible[:, None], x.dtype)
            mixed = jnp.einsum("bhkn,bhnd->bhkd", weights, _of(values, index))
            mixed = mixed.transpose(0, 2, 1, 3)
            x = x + product(_flat(mixed), layer["attention"]["output"]["kernel"])
        y = _norm(config, layer["cross_attention_norm"], x)
        with jax.named_scope("cross_attention"):
            query = _heads(config, product(y, layer["cross_attention"]["query"]["kernel"]))
            seen = _scores(config, "bhkd,bhsd->bhks", query.transpose(0, 2, 1, 3), _of(cross[0], index))
            weights = _softmax(seen, prepared.visible[:, None, None], x.dtype)
            mixed = jnp.einsum("bhks,bhsd->bhkd", weights, _of(cross[1], index)).transpose(0, 2, 1, 3)
            x = x + product(_flat(mixed), layer["cross_attention"]["output"]["kernel"])
        x = x + _feed_forward(layer["feed_forward"], _norm(config, layer["feed_forward_norm"], x))
        return x, ((keys, values), cross)

    x, states = through(prepared.layers, advance, x, _beside(cache.kept, prepared.cross))
    kept = [each for each, _ in states] if isinstance(states, list) else states[0]
    x = _norm(config, prepared.final_norm, x)
    with jax.named_scope("vocabulary_head"):
        return product(x, prepared.embedding, scores), Cache(kept, ancestors)


def _beside(kept: Any, cross: Any) -> Any:
    """What each layer has kept, and its keys and values of the source."""
    return list(zip(kept, cross, strict=True)) if isinstance(kept, list) else (kept, cross)


def _written(x: Array, new: Array, layer: Any, at: Array, axis: int) -> Array:
    """x with `new` from the index `at` of an axis on; where a `layer` is given, x holds all layers."""
    if layer is None:
        return jax.lax.dynamic_update_slice_in_dim(x, new, at, axis)
    begin = [layer, *(at if i == axis else 0 for i in range(new.ndim))]
    return jax.lax.dynamic_update_slice(x, new[None], begin)


def _of(x: Array, layer: Any) -> Array:
    return x if layer is None else jax.lax.dynamic_index_in_dim(x, layer, 0, keepdims=False)


def _descends(
    ancestors: Int[Array, "batch beams length"], position: Int[Array, ""]
) -> Bool[Array, "batch beams kept"]:
    """Which of the cached keys are of each hypothesis and its ancestors."""
    batch, beams, length = ancestors.shape
    ancestor = ancestors[..., None] == jnp.arange(beams)[None, None, None]
    before = (jnp.arange(length) <= position)[None, None, :, None]
    return (ancestor & before).reshape(batch, beams, length * beams)


def _heads(config: EncoderDecoderConfig, x: Array) -> Array:
    return x.reshape(*x.shape[:-1], config.heads, config.head_size)


def _flat(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], -1)


def _scores(config: EncoderDecoderConfig, how: str, query: Array, key: Array) -> Array:
    query = query * jnp.asarray(config.head_size**-0.5, query.dtype)
    return jnp.einsum(how, query, key, preferred_element_type=at_least_float32(query.dtype))


def _softmax(scores: Array, visible: Array, dtype: Any) -> Array:
    scores = jnp.where(visible, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1).astype(dtype)


@jax.named_scope("norm")
def _norm(config: EncoderDecoderConfig, norm: Params, x: Array) -> Array:
    y = x.astype(at_least_float32(x.dtype))
    y = y - y.mean(axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + config.norm_epsilon)
    scale, bias = (norm[name][None, None] for name in ("scale", "bias"))
    return (y * scale + bias).astype(x.dtype)


@jax.named_scope("feed_forward")
def _feed_forward(layer: Params, x: Array) -> Array:
    x = jax.nn.relu(product(x, layer["expand"]["kernel"]) + layer["expand"]["bias"][None, None])
    return product(x, layer["contract"]["kernel"]) + layer["contract"]["bias"][None, None]
