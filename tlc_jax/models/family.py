"""What a model family is. The record of each stands beside its network; families.py lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Integer

from tlc_jax.config import TransformerConfig
from tlc_jax.core.tree import Params
from tlc_jax.core.units import UnitKind
from tlc_jax.models.linear_inputs import InputRules

Ids = Integer[np.ndarray, "ids"]
ShardingRules = tuple[tuple[str, PartitionSpec], ...]
"""(regex over the paths of parameters, how their axes are split over the mesh), for parallel/sharding.py."""

KeepTokens = Callable[[Any, Ids], tuple[Any, Mapping[str, Ids]]]
"""(config, ids of tokens in ascending order) -> (the config of a model of these tokens alone; of each
parameter that has a row for each token, or whose rows depend on the ids, the rows that stay)."""


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
    keep_tokens: KeepTokens | None = None
    """A model of some of its tokens alone; None: tables cannot lose rows."""
    input_rules: InputRules | None = None
    """What the inputs of its matrices are, for steps that need calibration data; None: it does not say."""
