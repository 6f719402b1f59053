"""Movement pruning (Sanh et al. 2020, arXiv 2005.07683): weights that move towards zero while the model is
finetuned are pruned, where magnitude pruning takes those that are near it.

Scores and masks are learnt in one round of recovery (training/movement.py), in which the sparsity rises
update by update; nothing is left to do for the step afterwards. It is for the tensors that rules prune
without a sparsity of their own, as magnitude pruning is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tlc_jax.compression.methods.prune_magnitude import PruneMagnitude
from tlc_jax.compression.prune import Scope
from tlc_jax.compression.steps import Needs, Step
from tlc_jax.config.compression import RecoveryConfig
from tlc_jax.config.compression_aware import CompressionAwareConfig, MovementConfig
from tlc_jax.config.validation import check


@dataclass(frozen=True)
class PruneMovement(Step):
    """Weights with the smallest scores become zero; `recovery.movement` says how scores are learnt."""

    sparsity: float | None = None
    """Share of the weights of these tensors that are zero afterwards; None: what soft movement finds."""
    scope: Scope = "global"
    """What the largest scores are looked for in: all tensors together, each layer, or each tensor."""
    recovery: RecoveryConfig = field(default_factory=lambda: RecoveryConfig(movement=_SOFT))

    def __post_init__(self) -> None:
        super().__post_init__()
        movement, sparsity = self.recovery.movement, self.sparsity
        check(movement is not None, "PruneMovement learns what to prune: give recovery.movement")
        check(sparsity is None or 0 < sparsity < 1, f"sparsity must be in (0, 1), not {sparsity}")
        check(
            movement is None or movement.soft == (sparsity is None),
            "soft movement finds a sparsity by its penalty, and movement prunes up to the one that is given: "
            "give either recovery.movement.soft or a sparsity",
        )

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return ()  # none of tensors alone

    @property
    def needs(self) -> Needs:
        return Needs.TRAINING

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The sparsity after the only round; None: it is not known before."""
        return (self.sparsity,)

    def rounds(self) -> tuple[PruneMagnitude, ...]:
        """What is pruned before the training of each round: nothing."""
        return (PruneMagnitude(0.0),)

    def learnt(self) -> CompressionAwareConfig:
        return CompressionAwareConfig(
            movement=self.recovery.movement, sparsity=self.sparsity or 0.0, scope=self.scope
        )


_SOFT = MovementConfig(soft=True, penalty=100.0)
