"""AdamW as fairseq trains RoBERTa (adam.py)."""

from __future__ import annotations

import optax

from tlc_jax.config import OptimizerConfig
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
