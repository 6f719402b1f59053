"""The parameters of a run that is trained for a compression, as forward passes and evaluations have them."""

from __future__ import annotations

from typing import Any

import jax

from tlc_jax.compression.prune import apply_masks
from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.core.leaf import Masks
from tlc_jax.core.stacked import join, split
from tlc_jax.core.tree import Params
from tlc_jax.training.masked import only
from tlc_jax.training.rounded import Rounding


def seen(config: CompressionAwareConfig, params: Params, masks: dict[str, Any]) -> Params:
    """What the forward pass of an update computes with; traced. `masks` are those of parameters."""
    if config.movement is not None:
        params = only(params, masks)
    rounding = Rounding.of(config, params)
    return params if rounding is None else rounding.seen(params, masks)


def written(config: CompressionAwareConfig, params: Params, masks: Masks) -> Params:
    """What an artifact of the run would hold, and evaluations compute with, with the shardings of the
    parameters. `masks` are those of tensors."""
    if config.movement is not None:
        pruned = join(apply_masks(split(params), masks))
        params = jax.device_put(pruned, jax.tree.map(lambda x: x.sharding, params))
    rounding = Rounding.of(config, params)
    return params if rounding is None else rounding.written(params, masks)
