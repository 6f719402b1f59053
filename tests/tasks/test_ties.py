"""What counts as a right prediction: only a target that is ahead of every other class."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.inference.predictions import Predictions
from tlc_jax.tasks.base import is_right, prediction_loss

LOGITS = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf, np.nan])


def ahead(logits: list[float], target: int) -> bool:
    """In Python's own numbers, of which NaN is larger than none."""
    return all(logits[target] > other for i, other in enumerate(logits) if i != target)


@pytest.mark.slow
@given(st.lists(st.tuples(LOGITS, LOGITS, LOGITS), min_size=1, max_size=6), st.integers(0, 2))
def test_right_is_strictly_larger_than_every_other(rows: list[tuple[float, ...]], target: int) -> None:
    logits, targets = jnp.asarray(rows, jnp.float32), jnp.full(len(rows), target)
    assert is_right(logits, targets).tolist() == [ahead(list(row), target) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 3.5, -7.0])
@pytest.mark.parametrize("classes", [2, 5, 3000])
def test_a_model_that_says_nothing_is_never_right(value: float, classes: int) -> None:
    """All logits equal, as those of a head whose weights are all pruned."""
    batch = {"targets": jnp.arange(12) % classes, "weights": jnp.ones(12)}
    _, sums = prediction_loss(jnp.full((12, classes), value), batch)
    assert float(sums["correct"]) == 0


@pytest.mark.slow
def test_what_counts_as_right_has_no_gradient_and_any_number_of_axes() -> None:
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 3, 7)), jnp.bfloat16)
    targets = jnp.asarray(rng.integers(0, 7, (2, 3)))
    batch = {"targets": targets, "weights": jnp.ones((2, 3))}
    (_, sums), gradient = jax.value_and_grad(prediction_loss, has_aux=True)(logits.astype("float32"), batch)
    softmax = np.exp(logits.astype("float32")) / np.exp(logits.astype("float32")).sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, softmax - np.eye(7)[targets], atol=1e-5)
    values = np.asarray(logits.astype("float32"))
    expected = sum(ahead(list(values[i, j]), int(targets[i, j])) for i in range(2) for j in range(3))
    assert float(sums["correct"]) == expected


@given(st.lists(st.tuples(LOGITS, LOGITS, LOGITS), min_size=1, max_size=6), st.integers(0, 2))
def test_predictions_of_examples_count_the_same_way(rows: list[tuple[float, ...]], target: int) -> None:
    found = Predictions(np.array(rows, np.float32), np.full(len(rows), target))
    assert found.correct.tolist() == [ahead(list(row), target) for row in rows]
    assert found.accuracy == np.mean(found.correct)
