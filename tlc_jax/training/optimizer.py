"""AdamW as fairseq trains RoBERTa (adam.py), its epsilon included; Tensor2Tensor's Adam has the same form."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
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
    scale_by_adam = {"fairseq": _fairseq_adam, "optax": optax.scale_by_adam}[config.epsilon_form]
    return optax.chain(
        scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=match_rules(DECAY_RULES[config.decayed], params)),
    )


def _fairseq_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax's Adam, and its state, with fairseq's denominator: after t updates sqrt(v) + eps is divided by
    sqrt(1 - b2^t) as a whole, which is optax's with the epsilon eps / sqrt(1 - b2^t)."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        corrected = eps / jnp.sqrt(1 - b2 ** optax.safe_increment(state.count))
        return optax.scale_by_adam(b1=b1, b2=b2, eps=corrected).update(updates, state, params)

    return optax.GradientTransformation(optax.scale_by_adam(b1=b1, b2=b2).init, update)
