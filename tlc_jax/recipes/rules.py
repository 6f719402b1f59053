"""The rules that a compression's options stand for."""

from __future__ import annotations

from tlc_jax.compression.select import paper_rules, select
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core.stacked import Tensors


def rules_of(tensors: Tensors, config: CompressConfig) -> dict[str, Rule]:
    """Of each tensor its rule: the recipe's own, or the paper's."""
    return select(tensors, config.rules or paper_rules(tensors, config.spec, config.matrices_only))
