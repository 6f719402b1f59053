"""Label smoothing."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from tlc_jax.tasks.base import prediction_loss
from tlc_jax.tasks.translation import smoothing


def test_smoothed_loss_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    logits, vocab, share = rng.normal(0, 2, (3, 4, 7)), 7, 0.1
    targets, weights = rng.integers(0, vocab, (3, 4)), rng.integers(0, 2, (3, 4)).astype(np.float32)
    expected = 0.0
    for place in np.ndindex(3, 4):
        log_probs = logits[place] - np.log(np.exp(logits[place]).sum())
        wanted = np.full(vocab, share / (vocab - 1))
        wanted[targets[place]] = 1 - share
        expected -= weights[place] * (wanted * log_probs).sum()
    batch = {"targets": jnp.asarray(targets), "weights": jnp.asarray(weights)}
    plain, _ = prediction_loss(jnp.asarray(logits, jnp.float32), batch)
    found = plain + smoothing(jnp.asarray(logits, jnp.float32), batch, share)
    assert float(found) == pytest.approx(expected, rel=1e-5)
