"""The encoder as a model family: sharding, Hugging Face's names, units that can be pruned."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from tlc_jax.config import ModelConfig
from tlc_jax.core.units import UnitKind
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.encoder_names import huggingface_names
from tlc_jax.models.family import Ids, ModelFamily
from tlc_jax.models.layers import attention_units, feed_forward_units, layer_rules
from tlc_jax.models.linear_inputs import Batch, InputRules, Uses

# biases, norms, positions and heads are small, so every device has a copy; a vocabulary is never split, since
# 50,265 rows are odd and nothing is padded
_SHARDING_RULES = (
    *layer_rules("encoder"),
    (r"encoder/token_embedding|mlm_head/output_embedding", P(None, ("fsdp", "tensor"))),
    (r"encoder/(position|token_type)_embedding", P()),
    (r"(mlm_head|pooler|classification_head)/.*kernel", P()),
)


def _prunable_units(config: ModelConfig) -> tuple[UnitKind, ...]:
    """Heads and feed-forward units."""
    heads_shared, units_shared = config.shared_layers != "none", config.shared_layers == "all"
    return (
        attention_units(config, "encoder/layers/attention", 1 if heads_shared else config.num_layers),
        feed_forward_units(config, "encoder/layers/feed_forward", 1 if units_shared else config.num_layers),
    )


def _keep_tokens(config: ModelConfig, kept: Ids) -> tuple[ModelConfig, dict[str, Ids]]:
    """Where positions are counted from the pad's id, the rows before that id, which nothing reads, go with
    it."""
    pad = int(np.searchsorted(kept, config.pad_id))
    offset = pad + 1 if config.position_offset else 0
    first, end = config.position_offset - offset, config.max_positions + config.position_offset
    smaller = dataclasses.replace(config, vocab_size=len(kept), pad_id=pad, position_offset=offset)
    tokens = ("encoder/token_embedding", "mlm_head/output_embedding", "mlm_head/bias")
    return smaller, {**dict.fromkeys(tokens, kept), "encoder/position_embedding": np.arange(first, end)}


def _counted(config: ModelConfig, path: str, batch: Batch) -> jax.Array:
    """Real tokens in the encoder, predictions behind it."""
    return batch["tokens"] != config.pad_id if path.startswith("encoder/") else batch["weights"]


def _output(config: ModelConfig) -> tuple[str, str]:
    return "mlm_head/norm", "encoder/token_embedding" if config.tied_output else "mlm_head/output_embedding"


def _lookups(config: ModelConfig, batch: Batch) -> dict[str, Uses]:
    """As `Encoder.embedded` has them."""
    tokens = batch["tokens"]
    real = tokens != config.pad_id
    positions = jnp.arange(tokens.shape[1])[None]
    if config.position_offset:
        positions = jnp.cumsum(real, axis=1) * real + config.pad_id
    ids = {"encoder/token_embedding": tokens, "encoder/position_embedding": positions}
    if config.token_types:
        ids["encoder/token_type_embedding"] = batch.get("token_types", jnp.zeros_like(tokens))
    return {name: (rows, real.astype(jnp.float32)) for name, rows in ids.items()}


ENCODER = ModelFamily(
    name="encoder",
    config_type=ModelConfig,
    init=init_mlm,
    apply=apply_mlm,
    sharding_rules=_SHARDING_RULES,
    huggingface_names=huggingface_names,
    prunable_units=_prunable_units,
    keep_tokens=_keep_tokens,
    input_rules=InputRules(_counted, _output, _lookups),
)
