"""The encoder-decoder as a model family: sharding, Hugging Face's names, units that can be pruned."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from tlc_jax.config import EncoderDecoderConfig
from tlc_jax.core.units import UnitKind
from tlc_jax.core.vocabulary import TRANSLATION_PAD as PAD
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder
from tlc_jax.models.family import Ids, ModelFamily
from tlc_jax.models.layers import attention_units, feed_forward_units, layer_rules
from tlc_jax.models.linear_inputs import Batch, InputRules, Uses

_SHARDING_RULES = (
    *layer_rules("(encoder|decoder)"),
    (r"shared/token_embedding", P(None, ("fsdp", "tensor"))),
)

_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
_BLOCKS = {"attention": "self_attn", "cross_attention": "encoder_attn"}
_NORMS = {
    "attention_norm": "self_attn_layer_norm",
    "cross_attention_norm": "encoder_attn_layer_norm",
    "feed_forward_norm": "final_layer_norm",
}
_FEED_FORWARD = {"expand": "fc1", "contract": "fc2"}


def _huggingface_names(config: EncoderDecoderConfig) -> dict[str, str]:
    """{our tensor: that of Hugging Face's Pegasus}. Pegasus has the embedding more than once; the name here
    is that of the matrix which is written."""
    names = {"shared/token_embedding": "model.shared.weight"}
    for side in ("encoder", "decoder"):
        names |= _weight_and_bias(f"{side}/final_norm", f"model.{side}.layer_norm", "scale")
        blocks = [block for block in _BLOCKS if side == "decoder" or block == "attention"]
        for layer in range(config.num_layers):
            ours, theirs = f"{side}/layers/{layer}", f"model.{side}.layers.{layer}"
            for block in blocks:
                for name, their_name in _ATTENTION.items():
                    names[f"{ours}/{block}/{name}/kernel"] = f"{theirs}.{_BLOCKS[block]}.{their_name}.weight"
            for norm in (*(f"{block}_norm" for block in blocks), "feed_forward_norm"):
                names |= _weight_and_bias(f"{ours}/{norm}", f"{theirs}.{_NORMS[norm]}", "scale")
            for name, their_name in _FEED_FORWARD.items():
                names |= _weight_and_bias(f"{ours}/feed_forward/{name}", f"{theirs}.{their_name}", "kernel")
    return names


def _weight_and_bias(ours: str, theirs: str, weight: str) -> dict[str, str]:
    return {f"{ours}/{weight}": f"{theirs}.weight", f"{ours}/bias": f"{theirs}.bias"}


def _prunable_units(config: EncoderDecoderConfig) -> tuple[UnitKind, ...]:
    """Heads of every attention, and feed-forward units of both sides: all have the same number."""
    attentions = ("encoder/layers/attention", "decoder/layers/attention", "decoder/layers/cross_attention")
    return (
        *(attention_units(config, path, config.num_layers, bias=False) for path in attentions),
        *(
            feed_forward_units(config, f"{side}/layers/feed_forward", config.num_layers)
            for side in ("encoder", "decoder")
        ),
    )


def _keep_tokens(config: EncoderDecoderConfig, kept: Ids) -> tuple[EncoderDecoderConfig, dict[str, Ids]]:
    """One table is that of sources, of targets and of the output."""
    return dataclasses.replace(config, vocab_size=len(kept)), {"shared/token_embedding": kept}


def _counted(config: EncoderDecoderConfig, path: str, batch: Batch) -> jax.Array:
    """Tokens of the source, of what reads it, or else of the target."""
    of_source = re.match(r"encoder/|decoder/layers/cross_attention/(key|value)/", path)
    return batch["source" if of_source else "targets"] != PAD


def _output(config: EncoderDecoderConfig) -> tuple[str, str]:
    return "decoder/final_norm", "shared/token_embedding"


def _lookups(config: EncoderDecoderConfig, batch: Batch) -> dict[str, Uses]:
    """Of both sides; the last token of a target is predicted and not read."""
    tokens = jnp.concatenate([batch["source"], batch["targets"]], axis=1)
    return {"shared/token_embedding": (tokens, (tokens != PAD).astype(jnp.float32))}


ENCODER_DECODER = ModelFamily(
    name="encoder-decoder",
    config_type=EncoderDecoderConfig,
    init=init_encoder_decoder,
    apply=apply_encoder_decoder,
    sharding_rules=_SHARDING_RULES,
    huggingface_names=_huggingface_names,
    prunable_units=_prunable_units,
    keep_tokens=_keep_tokens,
    input_rules=InputRules(_counted, _output, _lookups),
)
