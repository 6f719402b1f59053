"""Distillation: a model learns the predictions of a trained one, its teacher, beside the data.

The loss is that of Hinton et al. 2015 (section 2), on the predicted positions only: of masked language models
as in DistilBERT (Sanh et al. 2019), of translation word by word (Kim and Rush 2016, 3.1). Hidden states of
layers may be learnt, too, by their mean squared difference (Jiao et al. 2020, TinyBERT, arXiv 1909.10351, 3;
of equal width, without a projection).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from tlc_jax.config import DistilConfig, TransformerConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import Params
from tlc_jax.models import electra_flops, flops
from tlc_jax.models.hidden_states import States, with_hidden_states
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
    model: TransformerConfig | None = None
    """The network of the task, where hidden states are learnt."""

    def loss(self, params: Params, batch: Batch, dropout_key: jax.Array) -> tuple[Float[Array, ""], Sums]:
        """(1 - w) x the task's loss + w x T^2 x the cross-entropy with the teacher, both sums over the
        predictions. Reported are the sums of the task, and T^2 x the cross-entropy as `distil_loss`; where
        hidden states are learnt, their loss is added and reported as `distil_hidden_loss`."""
        # scalars are what the schedule of the student controls; the teacher has no dropout
        seen = {name: x for name, x in batch.items() if x.ndim}
        student = lambda: self.task.logits(params, batch, dropout_key)  # noqa: E731
        teacher = lambda: self.teacher.logits(self.params, seen, None)  # noqa: E731
        if self.options.hidden_weight == 0:
            return self._of_logits(student(), teacher(), batch)
        (logits, states), (wanted, others) = with_hidden_states(student), with_hidden_states(teacher)
        total, sums = self._of_logits(logits, wanted, batch)
        hidden = self._of_states(states, others, batch)
        return total + self.options.hidden_weight * hidden, {**sums, "distil_hidden_loss": hidden}

    def _of_logits(self, logits: jax.Array, wanted: jax.Array, batch: Batch) -> tuple[Float[Array, ""], Sums]:
        total, sums = self.task.loss_of_logits(logits, batch, training=True)
        soft = soft_loss(logits, wanted, batch["weights"], self.options.temperature)
        weight = self.options.weight
        return (1 - weight) * total + weight * soft, {**sums, "distil_loss": soft}

    def _of_states(self, states: States, wanted: States, batch: Batch) -> Float[Array, ""]:
        """The mean loss of the stacks of layers. UserError where the family does not show hidden states."""
        rules = self.task.family.input_rules
        if rules is None or not states:
            raise UserError(
                f"models of the family {self.task.family.name} do not show their hidden states: give "
                "distil.hidden_weight 0"
            )
        weights = batch["weights"].reshape(len(batch["weights"]), -1).sum(axis=1)
        losses = [
            hidden_loss(x, wanted[path], rules.counted(self.model, f"{path}/", batch), weights)
            for path, x in states.items()
        ]
        return sum(losses, jnp.float32(0)) / len(losses)


def hidden_loss(
    states: Float[Array, "layers batch length hidden"],
    wanted: Float[Array, "deeper batch length hidden"],
    counted: Shaped[Array, "batch length"],
    weights: Float[Array, "batch"],
) -> Float[Array, ""]:
    """The mean squared difference of a row's hidden states over layers, hidden units and the tokens that
    count, summed over rows by the weights of their predictions: a sum as that of the task, which is divided
    once. Layer i of n, from 1, learns layer ceil(i N / n) of a teacher with N."""
    depth, deeper = len(states), len(wanted)
    layers = [-(-(i + 1) * deeper // depth) - 1 for i in range(depth)]
    error = states.astype(jnp.float32) - wanted[jnp.asarray(layers)].astype(jnp.float32)
    of_tokens = counted * jnp.mean(error**2, axis=(0, 3))
    return jnp.sum(weights * jnp.sum(of_tokens, axis=1) / jnp.maximum(jnp.sum(counted, axis=1), 1))


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
