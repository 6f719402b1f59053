"""Movement pruning: scores, masks and weights of several updates against numpy, and the curve against its
formula."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.training.linear_task import PATH, Linear, batch_of, params_of, slopes
from tlc_jax.compression.top_scores import Groups, keep_largest
from tlc_jax.config import (
    BudgetConfig,
    CompressionAwareConfig,
    Config,
    MeshConfig,
    MovementConfig,
    OptimizerConfig,
    QuantSpec,
    Rule,
)
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import flatten
from tlc_jax.parallel.mesh import make_mesh
from tlc_jax.training.movement import Movement
from tlc_jax.training.state import init_state, pruned_state
from tlc_jax.training.step import make_train_step

RATE, DECAY, EPSILON, STEPS = 0.1, 0.2, 0.5, 6
SECOND = (Rule("encoder/layers/1/.*", prune=True), Rule("(?s).*"))
ALL = (Rule("(?s).*", prune=True),)


def config_of(aware: CompressionAwareConfig, steps: int | None = STEPS) -> Config:
    optimizer = OptimizerConfig(RATE, weight_decay=DECAY, epsilon=EPSILON, epsilon_form="optax")
    budget = BudgetConfig(steps=steps, training_seconds=None if steps else 1.0)
    config = Config(optimizer=optimizer, budget=BudgetConfig(steps=1), compression_aware=aware)
    schedule = dataclasses.replace(config.schedule, follows="steps" if steps else "training_seconds")
    return dataclasses.replace(config, budget=budget, schedule=schedule)


def updates(config: Config, weights: np.ndarray) -> Any:
    """The states before and after each update of the linear task, at half the peak learning rate."""
    task, mesh = Linear(), make_mesh(MeshConfig(), jax.devices()[:1])
    movement = Movement.of(config, task.init(jax.random.key(0)))
    begin, optimizer = init_state(task, config.optimizer, jax.random.key(0), mesh, movement)
    state = pruned_state(begin, params_of(weights), {})
    step = jax.jit(make_train_step(task, config, optimizer, mesh))
    states = [jax.device_get(state)]
    for seed in range(STEPS):
        state, _ = step(state, batch_of(seed), jax.random.key(1), {"learning_rate": np.float32(RATE / 2)})
        states.append(jax.device_get(state))
    return states


class Adam:
    """p -> m / (sqrt(v) + epsilon), both corrected, in float64."""

    def __init__(self, b1: float, b2: float, epsilon: float):
        self.b1, self.b2, self.epsilon, self.m, self.v, self.t = b1, b2, epsilon, 0.0, 0.0, 0

    def __call__(self, g: Any) -> Any:
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return m / (np.sqrt(v) + self.epsilon)


def progress(step: int, begin: int, end: int) -> float:
    """The cubic curve of Zhu and Gupta 2017, of a final sparsity of 1."""
    if step >= end:
        return 1.0
    return 0.0 if step <= begin else 1 - (1 - (step - begin) / (end - begin)) ** 3


def smallest_pruned(scores: np.ndarray, count: int) -> np.ndarray:
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores.reshape(-1), kind="stable")[:count]] = False
    return mask.reshape(scores.shape)


def assert_equals_numpy(
    states: list[Any], weights: np.ndarray, masks_of: Any, direction: Any, rate: float
) -> None:
    """Replays the updates: `direction(g * W, scores, step)` is what scores descend along."""
    adam, w, scores = Adam(0.9, 0.98, EPSILON), weights.astype(float), np.zeros(weights.shape)
    mask = np.ones(weights.shape, bool)
    for step, state in enumerate(states[1:], 1):
        _, g = slopes(w * mask, batch_of(step - 1))
        scores = scores - rate * direction(g * w, scores, step - 1)
        w = w - RATE / 2 * mask * (adam(g * mask) + DECAY * w)
        mask = masks_of(scores, step)
        np.testing.assert_allclose(state.optimizer.scores[PATH], scores, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(state.optimizer.masks[PATH], mask)
        np.testing.assert_allclose(flatten(state.params)[PATH], w, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scope", "rules"), [("global", ALL), ("tensor", ALL), ("layer", SECOND)])
def test_scores_accumulate_as_the_paper_says(scope: Any, rules: tuple[Rule, ...]) -> None:
    """S -= rate * dL/dW' * W; the masks keep the largest of all, of each matrix, or of the second alone."""
    movement = MovementConfig(warmup=1 / 6, cooldown=1 / 3)
    config = config_of(CompressionAwareConfig(rules, movement, sparsity=0.6, scope=scope))
    weights = np.random.default_rng(0).normal(size=(2, 5, 5)).astype(np.float32)
    states = updates(config, weights)

    def masks_of(scores: np.ndarray, step: int) -> np.ndarray:
        share = 0.6 * progress(step, 1, 4)
        if scope == "global":
            return smallest_pruned(scores, round(share * 50))
        first, second = (smallest_pruned(matrix, round(share * 25)) for matrix in scores)
        return np.stack([first if rules == ALL else np.ones((5, 5), bool), second])

    assert_equals_numpy(states, weights, masks_of, lambda gw, *_: gw, RATE / 2)
    masks = [state.optimizer.masks[PATH] for state in states]
    pruned = 25 * (scope == "layer") or 50
    assert [int((~mask).sum()) for mask in masks[4:]] == [round(0.6 * pruned)] * 3
    came_back = [(~before & after).any() for before, after in itertools.pairwise(masks)]
    assert any(came_back) or scope == "layer", "a masked weight has a score, too"


def test_soft_movement_prunes_what_its_penalty_pulls_below_the_threshold() -> None:
    movement = MovementConfig(True, 0.0, 1 / 3, penalty=2.0, threshold=0.4, learning_rate=0.3)
    config = config_of(CompressionAwareConfig(ALL, movement))
    weights = np.random.default_rng(0).normal(size=(2, 5, 5)).astype(np.float32)
    states, adam = updates(config, weights), Adam(0.9, 0.999, 1e-8)

    def masks_of(scores: np.ndarray, step: int) -> np.ndarray:
        return 1 / (1 + np.exp(-scores)) > 0.4 * progress(step, 0, 4)

    def direction(gw: np.ndarray, scores: np.ndarray, step: int) -> np.ndarray:
        value = 1 / (1 + np.exp(-scores))
        return adam(gw + 2.0 * progress(step, 0, 4) * value * (1 - value) / 50)

    assert_equals_numpy(states, weights, masks_of, direction, 0.3 / 2)
    assert 0 < states[-1].optimizer.masks[PATH].mean() < 1


def test_the_curve_is_cubic_between_warm_up_and_cooldown() -> None:
    movement = MovementConfig(warmup=0.07, cooldown=0.25)
    aware = CompressionAwareConfig(ALL, movement, sparsity=0.9)
    built = Movement.of(config_of(aware, 60), Linear().init(jax.random.key(0)))
    assert built is not None
    found = [float(built.progress(jnp.int32(step))) for step in range(61)]
    np.testing.assert_allclose(found, [progress(step, 4, 45) for step in range(61)], atol=1e-6)
    assert aware.counted_from(60) == 45
    assert [int(built.counts(jnp.int32(step))[0]) for step in (4, 45, 60)] == [0, 45, 45]


def test_the_largest_scores_stay_exactly_and_of_equal_ones_the_last() -> None:
    """Against a stable sort, of groups that are spread over stacks; with many equal scores, -0 among them."""
    rng = np.random.default_rng(0)
    scores = {"a": rng.integers(-2, 3, (3, 4, 5)) * 0.5, "b": rng.normal(size=(1, 30)), "c": np.zeros((2, 7))}
    scores = {path: x.astype(np.float32) * np.float32(-1) for path, x in scores.items()}
    groups = Groups({"a": (0, 1, -1), "b": (1,), "c": (0, 2)}, (27, 50, 7))
    counts = [13, 20, 0]
    masks = jax.jit(lambda scores: keep_largest(scores, groups, jnp.asarray(counts)))(scores)
    members = [[("a", 0), ("c", 0)], [("a", 1), ("b", 0)], [("c", 1)]]
    for group, count in zip(members, counts, strict=True):
        together = np.concatenate([scores[path][i].reshape(-1) for path, i in group])
        found = np.concatenate([np.asarray(masks[path][i]).reshape(-1) for path, i in group])
        np.testing.assert_array_equal(found, smallest_pruned(together, count))
    assert np.asarray(masks["a"][2]).all(), "of no group"


@pytest.mark.slow
def test_scores_that_are_split_over_devices_stay_where_they_are() -> None:
    mesh, rng, counts = make_mesh(MeshConfig(1, 4, 2)), np.random.default_rng(0), np.array([50, 9])
    scores = {"a": rng.normal(size=(2, 8, 6)), "b": rng.integers(0, 3, (1, 12, 4))}
    whole = {path: jnp.asarray(x, jnp.float32) for path, x in scores.items()}
    split = jax.device_put(whole, NamedSharding(mesh, PartitionSpec(None, "fsdp", "tensor")))
    select = jax.jit(lambda scores: keep_largest(scores, Groups({"a": (0, 1), "b": (0,)}, (96, 48)), counts))
    expected = select(whole)
    for path, mask in select(split).items():
        np.testing.assert_array_equal(mask, expected[path])
    text = select.lower(split).compile().as_text() or ""
    assert "all-reduce" in text
    assert not {kind for kind in ("all-to-all", "collective-permute") if kind in text}


def test_what_does_not_go_together_is_refused() -> None:
    for options, says in (
        ({"soft": True}, "goes with movement.soft"),
        ({"penalty": 1.0}, "goes with movement.soft"),
        ({"warmup": 0.5, "cooldown": 0.5}, "leave no updates between"),
        ({"threshold": 0.5, "soft": True, "penalty": 1.0}, r"threshold must be in \(0, 0.5\)"),
    ):
        with pytest.raises(ValueError, match=says):
            MovementConfig(**options)
    with pytest.raises(ValueError, match="goes with movement that is not soft"):
        CompressionAwareConfig(ALL, MovementConfig())
    with pytest.raises(ValueError, match="all tensors together"):
        CompressionAwareConfig(ALL)
    params = Linear().init(jax.random.key(0))
    rounded = CompressionAwareConfig((Rule(".*", QuantSpec(4)),), MovementConfig(), sparsity=0.5)
    for aware, steps in ((rounded, 6), (dataclasses.replace(rounded, rules=ALL), None)):
        with pytest.raises(UserError, match=r"along a curve over budget\.steps"):
            Movement.of(config_of(aware, steps), params)
