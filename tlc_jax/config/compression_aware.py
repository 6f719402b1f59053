"""What the forward pass of a training sees of the weights, where these are trained for a compression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Optional

from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check, check_fields, check_types


@dataclass(frozen=True)
class MovementConfig:
    """Movement pruning (Sanh et al. 2020): each weight has a score, learnt by the straight-through gradient
    of its mask, which grows where the weight moves away from zero."""

    soft: bool = False
    """False: all but the largest scores are pruned, up to the sparsity that is asked for. True: weights whose
    sigmoid(score) is at most the threshold are, and the penalty decides how many these become."""
    warmup: float = 0.1
    """Share of the updates, at their beginning, in which nothing is pruned. From there to the cooldown the
    sparsity, or the threshold and the penalty of soft movement, rise to their ends along a cubic curve."""
    cooldown: float = 0.2
    """Share of the updates, at their end, with the whole sparsity. Evaluations count from there on; of soft
    movement, which prunes until the end, the last one counts."""
    penalty: Optional[float] = None
    """Of soft movement: the mean of sigmoid(score) over all prunable weights times this is added to the
    loss. The more, the sparser; try 10, 100, 1000."""
    threshold: float = 0.1
    """Of soft movement. Scores begin at 0, whose sigmoid is 1/2."""
    learning_rate: float = 1e-2
    """Of the scores of soft movement at the peak of the schedule, for Adam. Without `soft` only the order of
    scores matters, and they have the rate of the weights."""

    def __post_init__(self) -> None:
        check_types(self)
        shares = ("warmup", "cooldown")
        check_fields(self, "movement.", shares, lambda share: 0 <= share < 1, "in [0, 1)")
        check(
            self.warmup + self.cooldown < 1,
            f"movement.warmup {self.warmup} and movement.cooldown {self.cooldown} leave no updates between",
        )
        positive = ("penalty", "learning_rate")
        check_fields(self, "movement.", positive, lambda x: 0 < x < math.inf, "positive and finite")
        check_fields(self, "movement.", ("threshold",), lambda share: 0 < share < 0.5, "in (0, 0.5)")
        check(
            self.soft == (self.penalty is not None),
            "movement.penalty decides how much soft movement prunes, and goes with movement.soft: give both "
            "or neither",
        )

    def rise(self, steps: int) -> tuple[int, int]:
        """The updates, of so many, after which the sparsity begins to rise and has risen."""
        begin = round(self.warmup * steps)
        return begin, max(begin + 1, steps - round(self.cooldown * steps))


@dataclass(frozen=True)
class CompressionAwareConfig:
    """Training of weights that will be compressed. `compress` writes these options for its rounds of recovery
    (recovery.quantization_aware, recovery.movement)."""

    rules: tuple[Rule, ...] = ()
    r"""In a config document: how the tensors that they match are rounded in each forward pass, which is as an
    artifact with the same rules has them, and which of them movement prunes. Gradients are those of the
    rounded weights (straight through), and the weights that are trained keep all digits. Evaluations are of
    rounded weights. Those that no rule matches are not rounded. The config of a run keeps the rules, and may
    come from anybody: their patterns have names, `|`, and in each name at most two of `.*` and `\d+`."""
    movement: Optional[MovementConfig] = None
    """In a config document: how the weights of the tensors that rules prune are pruned while they are
    trained."""
    sparsity: float = 0.0
    """Share of these weights that movement prunes; soft movement finds its own."""
    scope: Literal["global", "layer", "tensor"] = "global"
    """What the largest scores are looked for in: all tensors together, each layer, or each tensor."""

    def __post_init__(self) -> None:
        check_types(self)
        for rule in self.rules:
            check(
                rule.is_simple,
                f"the pattern {rule.pattern[:100]!r} in compression_aware.rules may hold only names, .* and "
                "\\d+ (at most two in a name), and |: write it with these",
            )
            check(
                rule.sparsity is None and (self.movement is not None or not rule.prune),
                f"compression_aware.rules prune by movement alone, all tensors together: give the rule "
                f"{rule.pattern} no sparsity, and prune only with compression_aware.movement",
            )
        check_fields(self, "compression_aware.", ("sparsity",), lambda share: 0 <= share < 1, "in [0, 1)")
        hard = self.movement is not None and not self.movement.soft
        check(
            (self.sparsity > 0) == hard,
            "compression_aware.sparsity goes with movement that is not soft: give both or neither",
        )

    def counted_from(self, steps: int | None) -> int:
        """The update after which evaluations count, of so many: before it not all is pruned yet. The penalty
        of soft movement prunes until the end."""
        if self.movement is None or steps is None:
            return 0
        return steps if self.movement.soft else self.movement.rise(steps)[1]
