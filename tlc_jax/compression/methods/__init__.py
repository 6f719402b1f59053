"""The steps that a recipe may have, a file each. A new one is a file beside these and a line in STEPS."""

from __future__ import annotations

from tlc_jax.compression.methods.by_rule import ByRule
from tlc_jax.compression.methods.fit_bytes import FitBytes
from tlc_jax.compression.methods.keep_layers import KeepLayers
from tlc_jax.compression.methods.keep_units import KeepUnits
from tlc_jax.compression.methods.low_rank import LowRank
from tlc_jax.compression.methods.prune_compensated import PruneCompensated
from tlc_jax.compression.methods.prune_magnitude import PruneMagnitude
from tlc_jax.compression.methods.prune_movement import PruneMovement
from tlc_jax.compression.methods.prune_n_of_m import PruneNOfM
from tlc_jax.compression.methods.prune_wanda import PruneWanda
from tlc_jax.compression.methods.quantize_compensated import QuantizeCompensated
from tlc_jax.compression.methods.quantize_uniform import Quantize
from tlc_jax.compression.methods.trim_vocabulary import TrimVocabulary
from tlc_jax.compression.plain import FloatTensor, IntegerTensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.compression.steps import Step
from tlc_jax.core.leaf import Leaf

STEPS: tuple[type[Step], ...] = (
    KeepLayers,
    KeepUnits,
    TrimVocabulary,
    ByRule,
    PruneMagnitude,
    PruneMovement,
    PruneNOfM,
    PruneWanda,
    PruneCompensated,
    FitBytes,
    LowRank,
    QuantizeCompensated,
    Quantize,
)
LEAVES: tuple[type[Leaf], ...] = tuple(
    dict.fromkeys(
        (
            *(FloatTensor, IntegerTensor, QuantizedTensor),
            *(step.leaf for step in STEPS if step.leaf is not None),
        )
    )
)
"""The kinds of leaves that artifacts hold."""
