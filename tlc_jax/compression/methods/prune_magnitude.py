"""Magnitude pruning of all prunable tensors together (paper 4.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlc_jax.compression.input_statistics import Statistics
from tlc_jax.compression.prune import Scope, magnitude_masks
from tlc_jax.compression.steps import Needs, Step
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check
from tlc_jax.core.leaf import Masks


@dataclass(frozen=True)
class PruneMagnitude(Step):
    """The smallest weights become zero, in those tensors that rules prune without a sparsity of their own."""

    sparsity: float = 0.5
    """Share of the weights of these tensors that are zero afterwards."""
    scope: Scope = "global"
    """What the smallest are looked for in: all tensors together, each layer, or each tensor."""
    max_tensor_sparsity: float | None = None
    """No tensor loses a larger share than this; others lose more instead."""
    recovery: RecoveryConfig | None = None
    """Prune in rounds with finetuning between them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.sparsity < 1, f"sparsity must be in [0, 1), not {self.sparsity}")
        cap = self.max_tensor_sparsity
        check(cap is None or 0 < cap <= 1, f"max_tensor_sparsity must be in (0, 1], not {cap}")
        check_no_movement(self.recovery)

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(0.45), cls(0.3, "layer"), cls(0.3, "tensor"), cls(0.6, max_tensor_sparsity=0.7)

    @property
    def needs(self) -> Needs:
        return Needs.NOTHING if self.recovery is None else Needs.TRAINING

    @property
    def levels(self) -> tuple[float, ...]:
        """The sparsity after each round."""
        return tuple(step.sparsity for step in self.rounds())

    def rounds(self) -> tuple[PruneMagnitude, ...]:
        """The prunings that recovery does one after the other, each at once."""
        levels = () if self.recovery is None else self.recovery.levels
        ends = (*(level for level in levels if level < self.sparsity), self.sparsity)
        return tuple(dataclasses.replace(self, sparsity=level, recovery=None) for level in ends)

    def prune(
        self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks, inputs: Statistics
    ) -> Masks:
        names = [name for name in tensors if rules[name].prune and rules[name].sparsity is None]
        if not (self.sparsity and names):
            return masks
        cap = self.max_tensor_sparsity
        return {**masks, **magnitude_masks(tensors, self.sparsity, self.scope, masks, cap, names)}


def check_no_movement(recovery: RecoveryConfig | None) -> None:
    """ValueError where scores are to be learnt by a step that has none."""
    check(
        recovery is None or recovery.movement is None,
        "recovery.movement is for PruneMovement, not for steps that prune before training: take that step",
    )
