"""The decoder one token at a time, with cached keys and values: pure functions on the parameters.

`apply_encoder_decoder` computes every position at once, for training; this gives the same logits a position
at a time. Layers are unstacked and keys and values of the source are computed once, before any loop over
positions; they are shared by all hypotheses of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.tree import Params
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.models.encoder_decoder import encode, sinusoids
from tlc_jax.models.layers import at_least_float32, compute_dtype

Cache = list[dict[str, Float[Array, "batch beams heads length head_size"]]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prepared:
    """What all steps have in common: each layer's parameters and its keys and values of the source
    [batch, heads, others, head_size], what of the source is real, positions, the embedding."""

    layers: list[Params]
    final_norm: Params
    cross: list[tuple[Array, Array]]
    visible: Bool[Array, "batch others"]
    positions: Float[Array, "length hidden"]
    embedding: Float[Array, "vocab hidden"]


def prepare(
    config: EncoderDecoderConfig, params: Params, source: Int[Array, "batch others"], length: int
) -> Prepared:
    """Encodes the source. `length` is the longest that a translation can be."""
    memory = encode(config, params, source)
    dtype = compute_dtype(config)
    stacked = jax.tree.map(lambda x: x.astype(dtype), params["decoder"]["layers"])
    layers = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(config.num_layers)]
    cross = []
    for layer in layers:
        own = layer["cross_attention"]
        pair = (memory @ own[name]["kernel"] for name in ("key", "value"))
        key, value = (_heads(config, x).transpose(0, 2, 1, 3) for x in pair)
        cross.append((key, value))
    return Prepared(
        layers,
        params["decoder"]["final_norm"],
        cross,
        source != PAD,
        jnp.asarray(sinusoids(length, config.hidden_size), dtype),
        params["shared"]["token_embedding"].astype(dtype),
    )


def empty_cache(config: EncoderDecoderConfig, prepared: Prepared, beams: int) -> Cache:
    """Room for keys and values of every position of every hypothesis."""
    length = len(prepared.positions)
    shape = (len(prepared.visible), beams, config.heads, length, config.head_size)
    nothing = jnp.zeros(shape, prepared.embedding.dtype)
    return [{"key": nothing, "value": nothing} for _ in prepared.layers]


def step(
    config: EncoderDecoderConfig,
    prepared: Prepared,
    cache: Cache,
    tokens: Int[Array, "batch beams"],
    place: Int[Array, ""],
) -> tuple[Float[Array, "batch beams vocab"], Cache]:
    """Logits of the token at `place`, given the one before it (PAD at place 0), and the cache with it."""
    x = prepared.embedding[tokens] * jnp.asarray(config.hidden_size**0.5, prepared.embedding.dtype)
    x = jnp.where((tokens != PAD)[:, :, None], x, 0) + prepared.positions[place][None, None]
    before = (jnp.arange(len(prepared.positions)) <= place)[None, None, None]
    found: Cache = []
    for layer, cross, own in zip(prepared.layers, prepared.cross, cache, strict=True):
        y = _norm(config, layer["attention_norm"], x)
        query, key, value = (
            _heads(config, y @ layer["attention"][name]["kernel"]) for name in ("query", "key", "value")
        )
        kept = {
            name: jax.lax.dynamic_update_slice_in_dim(own[name], new[:, :, :, None], place, axis=3)
            for name, new in (("key", key), ("value", value))
        }
        scores = _scores(config, "bkhd,bkhtd->bkht", query, kept["key"])
        weights = _softmax(scores, before, x.dtype)
        mixed = jnp.einsum("bkht,bkhtd->bkhd", weights, kept["value"])
        x = x + _flat(mixed) @ layer["attention"]["output"]["kernel"]
        y = _norm(config, layer["cross_attention_norm"], x)
        query = _heads(config, y @ layer["cross_attention"]["query"]["kernel"])
        scores = _scores(config, "bkhd,bhsd->bkhs", query, cross[0])
        weights = _softmax(scores, prepared.visible[:, None, None], x.dtype)
        mixed = jnp.einsum("bkhs,bhsd->bkhd", weights, cross[1])
        x = x + _flat(mixed) @ layer["cross_attention"]["output"]["kernel"]
        x = x + _feed_forward(layer["feed_forward"], _norm(config, layer["feed_forward_norm"], x))
        found.append(kept)
    x = _norm(config, prepared.final_norm, x)
    accurate = at_least_float32(x.dtype)
    return jnp.einsum("bkd,vd->bkv", x, prepared.embedding, preferred_element_type=accurate), found


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


def _norm(config: EncoderDecoderConfig, norm: Params, x: Array) -> Array:
    y = x.astype(at_least_float32(x.dtype))
    y = y - y.mean(axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(axis=-1, keepdims=True) + config.norm_epsilon)
    scale, bias = (norm[name][None, None] for name in ("scale", "bias"))
    return (y * scale + bias).astype(x.dtype)


def _feed_forward(layer: Params, x: Array) -> Array:
    x = jax.nn.relu(x @ layer["expand"]["kernel"] + layer["expand"]["bias"][None, None])
    return x @ layer["contract"]["kernel"] + layer["contract"]["bias"][None, None]
