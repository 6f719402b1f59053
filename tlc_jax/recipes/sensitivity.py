"""The damage that compressing one tensor does to a model while all others stay as they are.

Damage is the Kullback-Leibler divergence of the model's predictions from those of the uncompressed model, in
nats per prediction. It is smooth and never negative, whereas the loss itself may fall by chance; and it
includes the interaction of all weights of a tensor, which a diagonal second-order estimate does not
(docs/results/mix.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlc_jax.compression.methods import ByRule
from tlc_jax.compression.pipeline import make_plan
from tlc_jax.compression.quantize import quantize_tensor, row_axis
from tlc_jax.compression.weight_errors import squares
from tlc_jax.config import Config
from tlc_jax.config.quantization import Rule
from tlc_jax.core.stacked import Tensors, join
from tlc_jax.tasks.base import Task

BITS = (8, 6, 5, 4, 3, 2)
SPARSITIES = (0.0, 0.15, 0.30, 0.45, 0.60, 0.75, 0.90)
RANGE = "mse"
GRANULARITIES = ("tensor", "row", "group:128", "group:64", "group:32")
EXAMPLES = 128
_SAMPLE = 1 << 18  # weights of a tensor on which granularities are compared

Damage = Callable[[Mapping[str, Any]], float]
"""The damage of putting these tensors in place of the model's own."""


@dataclass(frozen=True)
class Sensitivity:
    """Damage of one tensor, measured for each sparsity alone and for each number of bits alone, and estimated
    for both together, by bits and then by sparsity."""

    pruned: dict[float, float]
    quantized: dict[int, float]
    both: dict[int, dict[float, float]]
    shares: dict[str, dict[int, float]] = field(default_factory=dict)
    """The squared error with another granularity, as a share of that with the rule's, by bits."""

    def finer(self, bits: int, granularity: str = "") -> dict[float, float]:
        """`both` in steps of a twentieth, interpolated so that damage grows by a constant factor between two
        measured sparsities; with another granularity, of those that were compared."""
        share, alone = self.shares.get(granularity, {}).get(bits, 1.0), self.quantized[bits]
        damages = {
            s: both * (self.pruned[s] + share * alone) / ((self.pruned[s] + alone) or 1.0)
            for s, both in self.both[bits].items()
        }
        known = sorted(damages)
        steps = [n / 20 for n in range(20) if n / 20 <= known[-1]]
        logs = np.log([max(damages[sparsity], 1e-12) for sparsity in known])
        return {sparsity: float(np.exp(np.interp(sparsity, known, logs))) for sparsity in steps}


def sensitivity_of(
    name: str, x: Any, rule: Rule, mask: Any, damage: Damage, granularities: Sequence[str] = ()
) -> Sensitivity:
    """The sensitivity of a tensor of which `mask` is pruned already, quantized by its rule but for bits and
    range; `granularities` are compared with the rule's.

    The damages of a sparsity and of a number of bits do not quite add up: pruned weights are not rounded as
    well, and few bits round small weights to zero anyway. Both together are estimated by the share of their
    squared errors that remains when both happen."""
    x, measured = np.asarray(x), {0.0: 0.0}
    pruned = {s: _compressed(name, x, replace(rule, quant=None), s, mask) for s in _sparsities(rule, mask)}
    measured |= {s: damage({name: v}) for s, v in pruned.items() if s}
    errors = {s: squares(x, v)[0] for s, v in pruned.items()}
    quantized, both = {}, {}
    for bits in BITS:
        quant = rule.quant and replace(rule.quant, bits=bits, range=RANGE)
        rounded = {s: _compressed(name, x, replace(rule, quant=quant), s, mask) for s in pruned}
        quantized[bits], alone = damage({name: rounded[0.0]}), squares(x, rounded[0.0])[0]
        both[bits] = {
            s: (measured[s] + quantized[bits]) * squares(x, v)[0] / ((errors[s] + alone) or 1.0)
            for s, v in rounded.items()
        }
    return Sensitivity(measured, quantized, both, _shares(name, x, rule, granularities))


def _shares(name: str, x: np.ndarray, rule: Rule, granularities: Sequence[str]) -> dict[str, Any]:
    """The squared errors of these granularities as shares of the rule's, by bits, on some whole rows: the
    damage of rounding one tensor grows with its squared error."""
    if rule.quant is None or not granularities:
        return {}
    across = x.ndim - 1 if row_axis(name, x.shape) == 0 else 0
    every = min(-(-x.size // _SAMPLE), x.shape[across])
    some = np.ascontiguousarray(np.take(x, np.arange(0, x.shape[across], every), axis=across))

    def error(bits: int, granularity: str) -> float:
        assert rule.quant is not None
        spec = replace(rule.quant, bits=bits, range=RANGE, granularity=granularity)
        return squares(some, quantize_tensor(name, some, spec).dense())[0]

    given = {bits: error(bits, rule.quant.granularity) for bits in BITS}
    return {g: {bits: error(bits, g) / (given[bits] or 1.0) for bits in BITS} for g in granularities}


def _sparsities(rule: Rule, mask: Any) -> tuple[float, ...]:
    """0 and, for a tensor that may be pruned, the levels above what is pruned already."""
    before = 0.0 if mask is None else float(np.mean(~np.asarray(mask)))
    return (0.0, *(level for level in SPARSITIES if rule.prune and level > before))


def _compressed(name: str, x: np.ndarray, rule: Rule, sparsity: float, mask: Any) -> np.ndarray:
    """The tensor pruned to a sparsity and quantized by a rule."""
    rule = replace(rule, pattern=re.escape(name), sparsity=sparsity or None)
    masks = {} if mask is None else {name: mask}
    return np.asarray(make_plan({name: x}, (ByRule((rule,)),), masks=masks).convert(name, x).dense())


class Divergence:
    """The damage of tensors in a trained model, on the first `examples` training examples."""

    def __init__(self, task: Task, tensors: Tensors, config: Config, examples: int = EXAMPLES):
        self._tensors = tensors
        rows = config.at_once
        steps = range(-(-examples // rows))
        batches = [
            jax.device_put(task.train_batch(step, lambda size: slice(0, min(rows, size)))) for step in steps
        ]
        log = jax.jit(lambda params, batch: jax.nn.log_softmax(task.logits(params, batch), axis=-1))
        params = jax.device_put(join(tensors))
        self._batches = [(batch, log(params, batch)) for batch in batches]
        self._sums = jax.jit(
            lambda params, batch, reference: divergence(log(params, batch), reference, batch["weights"])
        )

    def __call__(self, changed: Mapping[str, Any]) -> float:
        params = jax.device_put(join({**self._tensors, **changed}))
        sums = [self._sums(params, batch, reference) for batch, reference in self._batches]
        total, weight = (sum(float(pair[i]) for pair in sums) for i in (0, 1))
        return max(total / weight, 0.0)  # rounding may make it negative


def divergence(
    changed: Float[Array, "*predictions classes"],
    reference: Float[Array, "*predictions classes"],
    weights: Float[Array, "*predictions"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(summed divergence of `changed` predictions from `reference` ones, both as log-probabilities; number of
    predictions)."""
    total = jnp.sum(weights * jnp.sum(jnp.exp(reference) * (reference - changed), axis=-1))
    return total, jnp.sum(weights)


def squared_error(tensors: Mapping[str, Any], names: list[str]) -> Damage:
    """The damage where there is no model to evaluate: the squared error of the tensors called `names` as a
    share of the sum of all squares, so that each weight counts the same."""
    total = sum(squares(tensors[name], tensors[name])[1] for name in names) or 1.0
    counted = set(names)

    def damage(changed: Mapping[str, Any]) -> float:
        return sum(squares(tensors[name], v)[0] for name, v in changed.items() if name in counted) / total

    return damage
