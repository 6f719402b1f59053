"""AdamW and the schedule, as fairseq trains RoBERTa (paper-facts: adam.py, polynomial_decay_schedule.py)."""

from __future__ import annotations

import optax

from tlc_jax.config import OptimizerConfig, ScheduleConfig
from tlc_jax.core.tree import Params, match_rules

DECAY_RULES = {
    "all": [(r".*", True)],
    "matrices": [(r".*/(bias|scale)", False), (r".*/(kernel|\w+_embedding)", True)],
}


def make_optimizer(config: OptimizerConfig, params: Params) -> optax.GradientTransformation:
    """Turns gradients into descent directions: Adam's plus decay, to be multiplied by -learning rate.

    `params` may be abstract; its paths choose what decays. Decay is decoupled: a step is
    p -= lr * (adam(g) + weight_decay * p).
    """
    return optax.chain(
        optax.scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=match_rules(DECAY_RULES[config.decayed], params)),
    )


def learning_rate(peak: float, schedule: ScheduleConfig, fraction: float) -> float:
    """Rate of an update that begins with `fraction` of the budget used: up to the peak, then down to 0.

    Over steps this is fairseq's polynomial decay of power 1, whose first update has rate 0. Computed on
    the host in float64: near the end, 1 - fraction has few digits left in float32.
    """
    rising = fraction / schedule.warmup if schedule.warmup else 1.0
    falling = (1.0 - fraction) / (1.0 - schedule.warmup)
    return peak * max(0.0, min(rising, falling, 1.0))
