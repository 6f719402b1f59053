"""What the training loop asks of a task, and the loss that tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlc_jax.core.tree import Params

Batch = dict[str, jax.Array]
AbstractBatch = dict[str, jax.ShapeDtypeStruct]
RowsOf = Callable[[int], slice]
"""Which rows of a batch of so many a process builds (parallel/mesh.py: local_rows)."""
HostBatch = dict[str, np.ndarray]
Sums = dict[str, Float[Array, ""]]
"""Sums over predictions, with their number under 'weight': divided once, when they are reported."""


@runtime_checkable
class Objective(Protocol):
    """What is computed of a batch, whatever the data. Losses are sums."""

    def init(self, key: jax.Array) -> Params:
        """New parameters."""
        ...

    def loss(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None
    ) -> tuple[Float[Array, ""], Sums]:
        """(sum of losses in nats, sums to report). With a dropout key it is a training loss.

        The batch of a training loss also holds what the schedule controls (`training/schedule.py`).
        """
        ...

    def logits(
        self, params: Params, batch: Batch, dropout_key: jax.Array | None = None
    ) -> Float[Array, "*predictions classes"]:
        """Of each prediction; their weights are `batch["weights"]`."""
        ...


@runtime_checkable
class ShapedObjective(Objective, Protocol):
    """One whose batches' shapes follow from the config."""

    def largest_batch(self) -> AbstractBatch:
        """The batch of one update that needs most memory."""
        ...


@runtime_checkable
class Task(Objective, Protocol):
    """One kind of training, on its data. Batches are pure in (seed, step)."""

    tokens_per_step: float
    """Tokens of one update, pads not counted; on average where updates differ."""

    def train_batch(self, step: int, rows: RowsOf) -> HostBatch:
        """A process's own rows of the batch of `step`, counted from 0."""
        ...

    def sample_batches(self, rows: RowsOf) -> Iterator[HostBatch]:
        """One training batch of each shape that there is, for the compiler."""
        ...

    def evaluation_sets(self) -> tuple[str, ...]:
        """Names of the sets that training evaluates on."""
        ...

    def reported_sets(self) -> tuple[str, ...]:
        """Names of further sets, which nothing may be chosen on: training never reads them."""
        ...

    def evaluation_size(self, name: str) -> int:
        """How many rows a set has."""
        ...

    def evaluation_batches(self, name: str, batch_size: int, rows: RowsOf) -> Iterator[HostBatch]:
        """Every row of a set exactly once, in batches of `batch_size`; the last is filled with weight 0."""
        ...

    def metrics(self, sums: dict[str, float]) -> dict[str, float]:
        """Named metrics of host sums, `loss` among them."""
        ...

    def decoded(self, params: Params, name: str) -> dict[str, float]:
        """Further metrics of a set, of what the model writes; none for most tasks."""
        ...

    def baselines(self) -> dict[str, float]:
        """`{'<set>/<metric>': value}` of models that know nothing but counts."""
        ...

    def facts(self) -> dict[str, str]:
        """What a person should know about the data before training."""
        ...

    def epochs(self, step: int) -> float:
        """How often `step` steps have seen the training rows."""
        ...


def prediction_loss(
    logits: Float[Array, "*predictions classes"], batch: Batch
) -> tuple[Float[Array, ""], Sums]:
    """What `Task.loss` gives: the summed cross-entropy in nats of the `targets` of a batch, each by its
    weight, and how many are predicted rightly."""
    weights = batch["weights"]
    picked = at_targets(logits, batch["targets"])
    total = jnp.sum(weights * (jax.nn.logsumexp(logits, axis=-1) - picked))
    correct = jnp.sum(weights * is_right(jax.lax.stop_gradient(logits), batch["targets"]))
    return total, {"loss": total, "correct": correct, "weight": jnp.sum(weights)}


def is_right(logits: Float[Array, "*shape classes"], targets: Int[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Whether the target's logit is larger than every other: a tie, or a logit that is NaN, is not right."""
    # a maximum over the others: an argmax over a vocabulary takes a CPU seven times as long
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    others = jnp.where(classes == targets[..., None], -jnp.inf, logits)
    return at_targets(logits, targets) > jnp.max(others, axis=-1)


def at_targets(logits: Float[Array, "*shape vocab"], targets: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """logits[target]."""
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
