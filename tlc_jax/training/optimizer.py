"""AdamW as fairseq trains RoBERTa (adam.py), its epsilon included; Tensor2Tensor's Adam has the same form.
Lower layers may learn more slowly, as in ELECTRA's finetuning (Clark et al. 2020, appendix B)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from tlc_jax.config import OptimizerConfig
from tlc_jax.core.tree import Params, flatten, match_rules

DECAY_RULES = {
    "all": [(r".*", True)],
    "matrices": [(r".*/(bias|scale)", False), (r".*/(kernel|\w+_embedding)", True)],
}
_DEPTH_RULES = [
    (r"encoder/(\w+_embedding|embedding_norm/\w+)", "embeddings"),
    (r"encoder/layers/.*", "layers"),
    (r".*", "head"),
]


def make_optimizer(config: OptimizerConfig, params: Params) -> optax.GradientTransformation:
    """Turns gradients into descent directions: Adam's plus decay, to be multiplied by -learning rate.

    `params` may be abstract; its paths choose what decays. Decay is decoupled: a step is
    p -= lr * (adam(g) + weight_decay * p), and with `layer_decay` lr is that of the parameter's layer.
    """
    scale_by_adam = {"fairseq": _fairseq_adam, "optax": optax.scale_by_adam}[config.epsilon_form]
    parts = [
        scale_by_adam(b1=config.beta1, b2=config.beta2, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=match_rules(DECAY_RULES[config.decayed], params)),
    ]
    if config.layer_decay != 1:
        parts.append(_scale_by(layer_factors(config.layer_decay, params)))
    return optax.chain(*parts)


def layer_factors(decay: float, params: Params) -> Params:
    """The factor of the learning rate of each parameter: float32, of a shape that its own is multiplied with.
    Of L stacked layers, layer l (from 0) has decay^(L - l) and the embeddings have decay^(L + 1). Layers that
    share their parameters are one."""
    parts = match_rules(_DEPTH_RULES, params)
    layers = next(x.shape[0] for path, x in flatten(params).items() if path.startswith("encoder/layers/"))

    def factor(part: str, x: Any) -> Float[np.ndarray, "..."]:
        if part == "layers":
            powers = np.arange(layers, 0, -1).reshape(-1, *(1,) * (x.ndim - 1))
        else:
            powers = {"embeddings": layers + 1, "head": 0}[part]
        return np.asarray(decay**powers, np.float32)

    return jax.tree.map(factor, parts, params)


def _scale_by(factors: Params) -> optax.GradientTransformation:
    """Multiplies directions by constants."""
    return optax.stateless(lambda updates, _: jax.tree.map(lambda x, factor: x * factor, updates, factors))


def _fairseq_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax's Adam, and its state, with fairseq's denominator: after t updates sqrt(v) + eps is divided by
    sqrt(1 - b2^t) as a whole, which is optax's with the epsilon eps / sqrt(1 - b2^t)."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        corrected = eps / jnp.sqrt(1 - b2 ** optax.safe_increment(state.count))
        return optax.scale_by_adam(b1=b1, b2=b2, eps=corrected).update(updates, state, params)

    return optax.GradientTransformation(optax.scale_by_adam(b1=b1, b2=b2).init, update)
