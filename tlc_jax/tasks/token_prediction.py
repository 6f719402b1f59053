"""What the kinds of tasks that predict tokens have in common: nats per byte, perplexity, accuracy."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core.tree import Params
from tlc_jax.tasks.base import Batch, HostSums, PreparedData, Sums, Task, TaskKind, nats
from tlc_jax.tasks.metric import NATS_PER_BYTE, ExampleScores, Metric


class TokenPrediction(Task, Protocol):
    """A task whose predictions are tokens.

    Its primary metric, nats per byte, is the summed cross-entropy of the predicted tokens over the number of
    UTF-8 bytes that these tokens stand for (data/token_bytes.py: </s> is one byte, other special tokens are
    none), so that models with different tokenizers can be compared. It is computed in evaluations only.
    """

    primary_metric: Metric = NATS_PER_BYTE

    @abstractmethod
    def token_bytes(self) -> Float32[np.ndarray, "vocab"]:
        """The number of bytes that each token stands for."""
        ...

    @functools.cached_property
    def _token_bytes(self) -> Float32[np.ndarray, "vocab"]:
        return self.token_bytes()

    def _bytes(self, batch: Batch) -> Float[Array, "batch predictions"]:
        return batch["weights"] * jnp.asarray(self._token_bytes)[batch["targets"]]

    def evaluation_sums(self, params: Params, batch: Batch) -> Sums:
        return {**self.loss(params, batch, None)[1], "bytes": jnp.sum(self._bytes(batch))}

    def metrics(self, sums: HostSums) -> dict[str, float]:
        loss = sums["loss"] / sums["weight"]
        results = {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < 700 else math.inf,
            "accuracy": sums["correct"] / sums["weight"],
        }
        if "bytes" in sums:
            results["nats_per_byte"] = sums["loss"] / sums["bytes"] if sums["bytes"] else math.inf
        return results

    def example_scores(self, params: Params, batch: Batch) -> ExampleScores:
        """Nats of each row, and its bytes as weights."""
        losses = batch["weights"] * nats(self.logits(params, batch), batch["targets"])
        return ExampleScores(jnp.sum(losses, axis=-1), jnp.sum(self._bytes(batch), axis=-1))


class TokenPredictionKind(TaskKind[PreparedData]):
    """A kind of such tasks."""

    prepare_data: Callable[..., PreparedData]
    """(options of the data, size of the vocabulary, console, to_train) -> the data."""

    def prepare(
        self, config: Config, console: Console, label_names: tuple[str, ...] | None = None
    ) -> PreparedData:
        return self.prepare_data(config.data, config.model.vocab_size, console, to_train=label_names is None)
