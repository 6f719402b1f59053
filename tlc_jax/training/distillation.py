"""Distillation: a model learns the predictions of a trained one, its teacher, beside the data.

The loss is that of Hinton et al. 2015 (section 2), on the predicted positions only: of masked language models
as in DistilBERT (Sanh et al. 2019), of translation word by word (Kim and Rush 2016, 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tlc_jax.config import DistilConfig
from tlc_jax.core.tree import Params
from tlc_jax.models import electra_flops, flops
from tlc_jax.tasks.base import Batch, Objective, Sums


@dataclass(frozen=True)
class Teacher:
    """A trained model whose predictions a run learns, and which stays as it is: the run's objective with the
    teacher's network, and its parameters on the run's mesh."""

    objective: Objective
    params: Params

    def operations(self) -> dict[str, float]:
        """Floating-point operations of its forward pass in an update, counted as those of the run."""
        shares = {"flops": flops.FORWARD, "electra_flops": electra_flops.FORWARD}
        return {name: shares[name] * count for name, count in self.objective.operations().items()}


@dataclass(frozen=True)
class Distilled:
    """The loss of a task that also learns a teacher's predictions; `params` are the teacher's."""

    task: Objective
    teacher: Objective
    params: Params
    options: DistilConfig

    def loss(self, params: Params, batch: Batch, dropout_key: jax.Array) -> tuple[Float[Array, ""], Sums]:
        """(1 - w) x the task's loss + w x T^2 x the cross-entropy with the teacher, both sums over the
        predictions. Reported are the sums of the task, and T^2 x the cross-entropy as `distil_loss`."""
        logits = self.task.logits(params, batch, dropout_key)
        total, sums = self.task.loss_of_logits(logits, batch, training=True)
        # scalars are what the schedule of the student controls; the teacher has no dropout
        seen = {name: x for name, x in batch.items() if x.ndim}
        wanted = self.teacher.logits(self.params, seen, None)
        soft = soft_loss(logits, wanted, batch["weights"], self.options.temperature)
        weight = self.options.weight
        return (1 - weight) * total + weight * soft, {**sums, "distil_loss": soft}


def soft_loss(
    logits: Float[Array, "*predictions classes"],
    wanted: Float[Array, "*predictions classes"],
    weights: Float[Array, "*predictions"],
    temperature: float,
) -> Float[Array, ""]:
    """T^2 x the cross-entropy of softmax(logits / T) with softmax(wanted / T), summed over predictions by
    their weights. T^2 keeps its gradient as large as that of the data at every T (Hinton et al. 2015, 2)."""
    scaled = logits / temperature
    probabilities = jax.nn.softmax(wanted / temperature)
    each = jax.nn.logsumexp(scaled, axis=-1) - jnp.sum(probabilities * scaled, axis=-1)
    return temperature**2 * jnp.sum(weights * each)
