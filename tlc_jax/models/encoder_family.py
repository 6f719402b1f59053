"""The encoder as a model family: sharding, Hugging Face's names, units that can be pruned."""

from __future__ import annotations

from jax.sharding import PartitionSpec as P

from tlc_jax.config import ModelConfig
from tlc_jax.core.units import UnitKind
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.encoder_names import huggingface_names
from tlc_jax.models.family import ModelFamily
from tlc_jax.models.layers import attention_units, feed_forward_units, layer_rules

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


ENCODER = ModelFamily(
    name="encoder",
    config_type=ModelConfig,
    init=init_mlm,
    apply=apply_mlm,
    sharding_rules=_SHARDING_RULES,
    huggingface_names=huggingface_names,
    prunable_units=_prunable_units,
)
