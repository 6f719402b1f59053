"""How much a model minds the compression of one tensor while all others stay as they are.

Measured is the Kullback-Leibler divergence of its predictions from the uncompressed model's, in nats a
prediction. It is smooth and never negative, where the loss itself may fall by chance; and it sees what all
weights of a tensor do together, of which a diagonal second-order estimate knows nothing
(docs/results/mix.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlc_jax.artifacts.artifact import is_artifact
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.quantize import dequantize_tensor, quantize_tensor
from tlc_jax.compression.weight_errors import squares
from tlc_jax.config import Config
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.qtensor import QTensor
from tlc_jax.core.stacked import Tensors, join
from tlc_jax.runs.restore import TrainedModel
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.build import make_task, open_data

BITS = (8, 6, 5, 4, 3, 2)
SPARSITIES = (0.0, 0.15, 0.30, 0.45, 0.60, 0.75, 0.90)
RANGE = "mse"
EXAMPLES = 128

Damage = Callable[[Mapping[str, Any]], float]
"""What it costs to put these tensors in place of the model's own."""


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Damage of one tensor: measured by its sparsity alone and by its number of bits alone; estimated for
    both together, by bits and then by sparsity."""

    pruned: dict[float, float]
    quantized: dict[int, float]
    both: dict[int, dict[float, float]]

    def finer(self, bits: int) -> dict[float, float]:
        """`both` in steps of a twentieth: between two sparsities of the table damage grows by a constant
        factor."""
        known = sorted(self.both[bits])
        steps = [n / 20 for n in range(20) if n / 20 <= known[-1]]
        logs = np.log([max(self.both[bits][own], 1e-12) for own in known])
        return {own: float(np.exp(np.interp(own, known, logs))) for own in steps}


def sensitivity_of(name: str, x: Any, rule: Rule, spec: QuantSpec, mask: Any, damage: Damage) -> Sensitivity:
    """Of the tensor called `name`, of which `mask` is pruned already; quantized as `spec` says, but for bits
    and range.

    The damages of a sparsity and of a number of bits do not quite add up: what is pruned is not rounded too,
    and few bits round small weights to zero anyway. They are taken together by the share of their squared
    errors that is left when both happen."""
    x = np.asarray(x)
    masks = {0.0: mask, **_masks(name, x, mask)} if rule.prune else {0.0: mask}
    zeroed = {own: x if kept is None else np.where(kept, x, np.float32(0)) for own, kept in masks.items()}
    pruned = {own: damage({name: v}) if own else 0.0 for own, v in zeroed.items()}
    errors = {own: squares(x, v)[0] for own, v in zeroed.items()}
    quantized, both = {}, {}
    for bits in BITS:
        rounded = {own: _rounded(name, x, spec, bits, kept) for own, kept in masks.items()}
        quantized[bits], alone = damage({name: rounded[0.0]}), squares(x, rounded[0.0])[0]
        both[bits] = {
            own: (pruned[own] + quantized[bits]) * squares(x, v)[0] / ((errors[own] + alone) or 1.0)
            for own, v in rounded.items()
        }
    return Sensitivity(pruned, quantized, both)


def _masks(name: str, x: np.ndarray, mask: Any) -> dict[float, Any]:
    earlier = {} if mask is None else {name: mask}
    before = 0.0 if mask is None else float(np.mean(~np.asarray(mask)))
    levels = [own for own in SPARSITIES if own > before]
    return {own: magnitude_masks({name: x}, own, previous=earlier)[name] for own in levels}


def _rounded(name: str, x: np.ndarray, spec: QuantSpec, bits: int, mask: Any) -> np.ndarray:
    stopping.check()
    q = quantize_tensor(name, x, dataclasses.replace(spec, bits=bits, range=RANGE), mask)
    assert isinstance(q, QTensor)
    return np.asarray(dequantize_tensor(q))


def own_task(model: TrainedModel) -> Task:
    """With the data of the run."""
    if is_artifact(model.rundir.root):
        raise UserError(
            f"{model.rundir.root} is an artifact, which has no data to measure with: give the run"
        )
    return make_task(model.config, open_data(model.config, model.rundir.data))


class Divergence:
    """The damage of tensors in a trained model, over the first `examples` training examples (rows of
    text)."""

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
        self._sums = jax.jit(lambda params, batch, own: divergence(log(params, batch), own, batch["weights"]))

    def __call__(self, changed: Mapping[str, Any]) -> float:
        params = jax.device_put(join({**self._tensors, **changed}))
        sums = [self._sums(params, batch, own) for batch, own in self._batches]
        total, weight = (sum(float(own[i]) for own in sums) for i in (0, 1))
        return max(total / weight, 0.0)  # rounding may take it below


def divergence(
    found: Float[Array, "*predictions classes"],
    own: Float[Array, "*predictions classes"],
    weights: Float[Array, "*predictions"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(summed divergence of predictions from the `own` ones, both as log-probabilities; their number)."""
    return jnp.sum(weights * jnp.sum(jnp.exp(own) * (own - found), axis=-1)), jnp.sum(weights)


def squared_error(tensors: Mapping[str, Any], names: list[str]) -> Damage:
    """Without a model that could be asked: each weight counts the same. Of all weights the share of the
    squares that is lost."""
    whole = sum(_squares(tensors[name]) for name in names) or 1.0

    def damage(changed: Mapping[str, Any]) -> float:
        return sum(squares(tensors[name], v)[0] for name, v in changed.items() if name in own) / whole

    own = set(names)
    return damage


def _squares(x: Any) -> float:
    return squares(x, x)[1]
