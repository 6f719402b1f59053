"""What the forward pass of a training sees of the weights, where these are trained for a compression."""

from __future__ import annotations

from dataclasses import dataclass

from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check, check_types


@dataclass(frozen=True)
class CompressionAwareConfig:
    """Training of weights that will be compressed. `compress` writes these options for its rounds of recovery
    (recovery.quantization_aware)."""

    rules: tuple[Rule, ...] = ()
    """In a config document: how the tensors that they match are rounded in each forward pass, which is as an
    artifact with the same rules has them. Gradients are those of the rounded weights (straight through), and
    the weights that are trained keep all digits. Evaluations are of rounded weights. Those that no rule
    matches are not rounded."""

    def __post_init__(self) -> None:
        check_types(self)
        for rule in self.rules:
            check(
                rule.sparsity is None and not rule.prune,
                f"compression_aware.rules say how to round, and the rule {rule.pattern} prunes: give it "
                "neither prune nor sparsity",
            )
