"""The encoder as a model family: sharding, Hugging Face's names, units that can be pruned."""

from __future__ import annotations

from jax.sharding import PartitionSpec as P

from tlc_jax.config import ModelConfig
from tlc_jax.core.units import UnitKind
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.family import ModelFamily
from tlc_jax.models.layers import attention_units, feed_forward_units, layer_rules

# biases, norms, positions and heads are small, so every device has a copy; a vocabulary is never split, since
# 50,265 rows are odd and nothing is padded
_SHARDING_RULES = (
    *layer_rules("encoder"),
    (r"encoder/token_embedding", P(None, ("fsdp", "tensor"))),
    (r"encoder/position_embedding", P()),
    (r"(mlm_head|classification_head)/.*kernel", P()),
)

_ENCODER = "roberta_prelayernorm"
_EMBEDDINGS = f"{_ENCODER}.embeddings"
_ARRAYS = {
    "encoder/token_embedding": f"{_EMBEDDINGS}.word_embeddings.weight",
    "encoder/position_embedding": f"{_EMBEDDINGS}.position_embeddings.weight",
    "mlm_head/bias": "lm_head.bias",
}
_MODULES = {
    "encoder/embedding_norm": f"{_EMBEDDINGS}.LayerNorm",
    "encoder/final_norm": f"{_ENCODER}.LayerNorm",
    "mlm_head/dense": "lm_head.dense",
    "mlm_head/norm": "lm_head.layer_norm",
    "classification_head/dense": "classifier.dense",
    "classification_head/output": "classifier.out_proj",
}
_LAYER = {
    "attention_norm": "attention.LayerNorm",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "feed_forward_norm": "intermediate.LayerNorm",
    "feed_forward/expand": "intermediate.dense",
    "feed_forward/contract": "output.dense",
}


def _huggingface_names(config: ModelConfig) -> dict[str, str]:
    """{our tensor: that of Hugging Face's RobertaPreLayerNorm}, with those of all heads; layers that share
    parameters have names of their own there."""
    modules = dict(_MODULES)
    for layer in range(config.num_layers):
        for ours, theirs in _LAYER.items():
            modules[f"encoder/layers/{layer}/{ours}"] = f"{_ENCODER}.encoder.layer.{layer}.{theirs}"
    names = dict(_ARRAYS)
    for ours, theirs in modules.items():
        names[f"{ours}/{'scale' if ours.endswith('norm') else 'kernel'}"] = f"{theirs}.weight"
        names[f"{ours}/bias"] = f"{theirs}.bias"
    return names


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
    huggingface_names=_huggingface_names,
    prunable_units=_prunable_units,
)
