"""AdamW and the schedule, as fairseq trains RoBERTa (paper-facts: adam.py, polynomial_decay_schedule.py)."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

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


def learning_rate(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, fraction: Float[Array, ""]
) -> Float[Array, ""]:
    """Rate of an update that begins with `fraction` of the budget used: up to the peak, then down to 0.

    Over steps this is fairseq's polynomial decay of power 1, whose first update has rate 0.
    """
    warmup = schedule.warmup
    rising = fraction / warmup if warmup else jnp.inf
    falling = (1.0 - fraction) / (1.0 - warmup)
    return optimizer.learning_rate * jnp.clip(jnp.minimum(rising, falling), 0.0, 1.0)
