"""A tiny objective whose gradients are known: two linear layers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tlc_jax.tasks.base import Objective

PATH = "encoder/layers/x/kernel"


class Linear(Objective):
    """y = x W_0 W_1, of two layers [n, n] that are stacked; the loss is half the squared error."""

    family: Any = SimpleNamespace(sharding_rules=((".*", PartitionSpec()),))

    def init(self, key: jax.Array) -> Any:
        return params_of(jax.random.normal(key, (2, 5, 5)))

    def loss(self, params: Any, batch: Any, dropout_key: Any) -> Any:
        first, second = params["encoder"]["layers"]["x"]["kernel"]
        total = 0.5 * jnp.sum((batch["x"] @ first @ second - batch["y"]) ** 2)
        return total, {"loss": total, "weight": jnp.float32(len(batch["x"]))}


def params_of(weights: Any) -> Any:
    return {"encoder": {"layers": {"x": {"kernel": jnp.asarray(weights)}}}}


def batch_of(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(4, 5)).astype(np.float32) for name in "xy"}


def slopes(weights: np.ndarray, batch: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """The loss and the gradient of the mean loss of an example, at these weights."""
    first, second = weights
    error = batch["x"] @ first @ second - batch["y"]
    gradient = np.stack([batch["x"].T @ error @ second.T, (batch["x"] @ first).T @ error])
    return 0.5 * float((error**2).sum()), gradient / len(error)
