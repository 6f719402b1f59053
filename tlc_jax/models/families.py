"""The list of model families. A new one is a network and its record in their own files, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import PartitionSpec

from tlc_jax.config import EncoderDecoderConfig, ModelConfig, TransformerConfig
from tlc_jax.core.tree import Params
from tlc_jax.core.units import UnitKind
from tlc_jax.models import encoder_decoder_family, encoder_family
from tlc_jax.models.encoder import apply_mlm, init_mlm
from tlc_jax.models.encoder_decoder import apply_encoder_decoder, init_encoder_decoder

ShardingRules = tuple[tuple[str, PartitionSpec], ...]
"""(regex over the paths of parameters, how their axes are split over the mesh), for parallel/sharding.py."""


@dataclass(frozen=True)
class ModelFamily:
    """What the program needs to know of a family of models.

    `init(config, key)` gives new parameters, `apply(config, params, *inputs, dropout_key=None)` float32
    logits; the parameter paths are documented in the file of the network.
    """

    name: str
    config_type: type[TransformerConfig]
    init: Callable[[Any, jax.Array], Params]
    apply: Callable[..., jax.Array]
    sharding_rules: ShardingRules
    huggingface_names: Callable[[Any], dict[str, str]]
    """{our tensor (core/stacked.py): Hugging Face's} of a config."""
    prunable_units: Callable[[Any], tuple[UnitKind, ...]]
    """The units that structured pruning can remove from a model of a config."""


ENCODER = ModelFamily(
    name="encoder",
    config_type=ModelConfig,
    init=init_mlm,
    apply=apply_mlm,
    sharding_rules=encoder_family.SHARDING_RULES,
    huggingface_names=encoder_family.huggingface_names,
    prunable_units=encoder_family.prunable_units,
)
ENCODER_DECODER = ModelFamily(
    name="encoder-decoder",
    config_type=EncoderDecoderConfig,
    init=init_encoder_decoder,
    apply=apply_encoder_decoder,
    sharding_rules=encoder_decoder_family.SHARDING_RULES,
    huggingface_names=encoder_decoder_family.huggingface_names,
    prunable_units=encoder_decoder_family.prunable_units,
)
FAMILIES = (ENCODER, ENCODER_DECODER)


def family_of(config: TransformerConfig) -> ModelFamily:
    """The family whose models `config` describes."""
    return next(family for family in FAMILIES if family.config_type is type(config))
