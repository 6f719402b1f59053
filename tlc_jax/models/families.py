"""The list of model families. A new one is a network and its record in their own files, and a line here."""

from __future__ import annotations

from tlc_jax.config import TransformerConfig
from tlc_jax.models.encoder_decoder_family import ENCODER_DECODER
from tlc_jax.models.encoder_family import ENCODER
from tlc_jax.models.family import ModelFamily

FAMILIES: tuple[ModelFamily, ...] = (ENCODER, ENCODER_DECODER)


def family_of(config: TransformerConfig) -> ModelFamily:
    """The family whose models `config` describes."""
    return next(family for family in FAMILIES if family.config_type is type(config))
