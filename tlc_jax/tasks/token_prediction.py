"""What the kinds of tasks that predict tokens have in common: nats per byte, perplexity, accuracy, and a
count model: a comparison counts only if every model in it is better than that."""

from __future__ import annotations

import dataclasses
import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64

from tlc_jax.config import Config
from tlc_jax.core.native import abandonable
from tlc_jax.core.tree import Params
from tlc_jax.data import cache
from tlc_jax.data.cache import Prepared
from tlc_jax.tasks.base import Batch, HostBatch, HostSums, Sums, Task, nats
from tlc_jax.tasks.metric import NATS_PER_BYTE, ExampleScores, Metric

CountModel = Callable[[HostBatch], Float64[np.ndarray, "batch predictions"]]
"""Nats of each target of an evaluation batch, under counts of the training data."""
_COUNT_MODELS = 1  # version of what they compute


class TokenPrediction(Task, Protocol):
    """A task whose predictions are tokens.

    Its primary metric, nats per byte, is the summed cross-entropy of the predicted tokens over the number of
    UTF-8 bytes that these tokens stand for (data/token_bytes.py: </s> is one byte, other special tokens are
    none), so that models with different tokenizers can be compared. It is computed in evaluations only.
    """

    primary_metric: Metric = NATS_PER_BYTE

    count_model_name: str
    """What the metrics of the count model begin with."""

    _config: Config

    @abstractmethod
    def prepared(self) -> Prepared:
        """The data of the task."""
        ...

    @abstractmethod
    def count_model(self) -> CountModel | None:
        """The count model, after counting; None where there are no training data."""
        ...

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

    def baselines(self) -> dict[str, float]:
        return self._baselines

    @functools.cached_property
    def _baselines(self) -> dict[str, float]:
        """Perplexity and nats per byte of the count model, over the predictions that models are evaluated on.
        Counting takes seconds, so they are kept in the cache."""
        manifest = self.prepared().manifest
        sizes = {name: self.evaluation_size(name) for name in self._all_sets()}
        depends_on = {
            self.count_model_name: _COUNT_MODELS,
            "data": [manifest["identity"], manifest["files"]],
            "task": dataclasses.asdict(self._config.task),
            "examples": sizes,
        }
        if self._config.data_share < 1:  # counts are those of the data that are trained on
            depends_on["data_share"] = self._config.data_share
        cache_dir = self._config.data.cache_dir
        return cache.remembered(cache_dir, depends_on, lambda: abandonable(self._count))

    def _count(self) -> dict[str, float]:
        model = self.count_model()
        if model is None:
            return {}
        results: dict[str, float] = {}
        for name in self._all_sets():
            loss = weight = size = 0.0
            for batch in self.evaluation_batches(name, self._config.at_once, slice):
                weights = batch["weights"].astype(np.float64)
                loss += float(np.sum(weights * model(batch)))
                weight += float(np.sum(weights))
                size += float(np.sum(weights * self._token_bytes[batch["targets"]]))
            if size:
                start = f"{name}/{self.count_model_name}"
                results[f"{start}_perplexity"] = math.exp(loss / weight)
                results[f"{start}_nats_per_byte"] = loss / size
        return results

    def _all_sets(self) -> tuple[str, ...]:
        return (*self.evaluation_sets(), *self.reported_sets())

    def example_scores(self, params: Params, batch: Batch) -> ExampleScores:
        """Nats of each row, and its bytes as weights."""
        losses = batch["weights"] * nats(self.logits(params, batch), batch["targets"])
        return ExampleScores(jnp.sum(losses, axis=-1), jnp.sum(self._bytes(batch), axis=-1))
