"""Movement pruning (Sanh et al. 2020, arXiv 2005.07683): what is pruned is learnt beside the weights.

The forward pass computes with W' = W * M(S). With g the gradient with respect to W', a weight gets g where it
is not masked, and its score gets g * W everywhere, as if M were the identity (straight through, 4, equation
2): the score accumulates -rate * g * W, and grows where the weight moves away from zero. A masked weight
keeps its value, and may come back.

    movement       M keeps the largest scores, all but the share that a cubic curve asks for
    soft movement  M = sigmoid(S) > threshold; penalty * mean(sigmoid(S)) is added to the loss; threshold and
                   penalty rise along the same curve. Scores are updated by Adam, since they are compared with
                   a number and not only with each other.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from tlc_jax.compression.select import holds_weights, select
from tlc_jax.compression.top_scores import Groups, keep_largest
from tlc_jax.config import Config
from tlc_jax.config.compression_aware import CompressionAwareConfig, MovementConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import layer_of, shapes_of, tensor_names
from tlc_jax.core.tree import Params, flatten
from tlc_jax.training.masked import only


class MovementState(NamedTuple):
    """`masks`, those of the next forward pass, and `scores`: {path of a parameter: array of its shape};
    `moments` are Adam's of the scores of soft movement, `inner` is the state of the weights' optimizer."""

    masks: Any
    scores: Any
    moments: Any
    inner: Any


def descended(scores: dict[str, Array], directions: Any, rate: Any) -> dict[str, Array]:
    return {path: x - rate * directions[path] for path, x in scores.items()}


@dataclass(frozen=True)
class Movement:
    """The masks of a run as a function of its scores and its finished updates."""

    options: MovementConfig
    sparsity: float
    steps: int
    peak: float
    """The learning rate of the weights at its peak."""
    groups: Groups

    @classmethod
    def of(cls, config: Config, params: Params) -> Movement | None:
        """That of a config for parameters, which may be abstract; None where it has none. UserError where no
        rule says what is pruned, or where the updates are not counted beforehand."""
        aware, steps = config.compression_aware, config.budget.steps
        if aware.movement is None:
            return None
        groups = _groups(aware, params)
        if steps is None or not groups.sizes:
            raise UserError(
                "compression_aware.movement prunes, along a curve over budget.steps, what "
                "compression_aware.rules prune: give both"
            )
        return cls(aware.movement, aware.sparsity, steps, config.optimizer.learning_rate, groups)

    def wrapped(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
        """An optimizer that updates scores and masks beside the weights; it is given gradients of the masked
        weights, and `learning_rate` and `step`, the number of finished updates before this one."""

        def init(params: Any) -> MovementState:
            flat = flatten(params)
            chosen = {path: flat[path] for path in self.groups.of}
            masks = jax.tree.map(lambda x: jnp.ones(x.shape, bool), chosen)
            scores = jax.tree.map(jnp.zeros_like, chosen)
            return MovementState(masks, scores, self._direction.init(scores), optimizer.init(params))

        def update(updates: Any, state: Any, params: Any = None, **now: Any) -> tuple[Any, Any]:
            slopes, weights = flatten(updates), flatten(params)
            along = {
                path: slopes[path] * weights[path] + self._pull(scores, now["step"])
                for path, scores in state.scores.items()
            }
            directions, moments = self._direction.update(along, state.moments)
            factor = self.options.learning_rate / self.peak if self.options.soft else 1.0
            scores = descended(state.scores, directions, factor * now["learning_rate"])
            descent, inner = optimizer.update(only(updates, state.masks), state.inner, params)
            masks = self.masks(scores, now["step"] + 1)
            return only(descent, state.masks), MovementState(masks, scores, moments, inner)

        return optax.GradientTransformationExtraArgs(init, update)

    def masks(self, scores: dict[str, Array], step: Any) -> dict[str, Array]:
        """The masks after `step` finished updates."""
        if self.options.soft:
            threshold = self.options.threshold * self.progress(step)
            kept = {path: jax.nn.sigmoid(x) > threshold for path, x in scores.items()}
            return {path: self._or_not_pruned(path, mask) for path, mask in kept.items()}
        stacked = {path: x.reshape(len(index), -1) for path, x, index in self._stacks(scores)}
        masks = keep_largest(stacked, self.groups, self.counts(step))
        return {path: masks[path].reshape(x.shape) for path, x in scores.items()}

    def counts(self, step: Int[Array, ""]) -> Int[Array, "groups"]:
        """How many weights of each group are pruned after `step` updates; exact in the end."""
        progress = self.progress(step)
        sizes = jnp.asarray(self.groups.sizes, jnp.float32)
        last = jnp.asarray([round(self.sparsity * size) for size in self.groups.sizes], jnp.int32)
        on_the_way = jnp.round(progress * self.sparsity * sizes).astype(jnp.int32)
        return jnp.where(progress < 1, jnp.minimum(on_the_way, last), last)

    def progress(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """The share of the final sparsity, 1 - (1 - x)^3 with x the share of the updates between warm-up and
        cooldown (Zhu and Gupta 2017, arXiv 1710.01878, 3; Sanh et al. 2020, 5)."""
        begin, end = self.options.rise(self.steps)
        share = jnp.clip((step - begin) / (end - begin), 0.0, 1.0)
        return jnp.where(step >= end, 1.0, 1 - (1 - share) ** 3)

    @property
    def _direction(self) -> optax.GradientTransformation:
        return optax.scale_by_adam() if self.options.soft else optax.identity()

    def _pull(self, scores: Float[Array, "*shape"], step: Any) -> Any:
        """The gradient of the penalty."""
        if self.options.penalty is None:
            return 0.0
        value = jax.nn.sigmoid(scores)
        return self.options.penalty * self.progress(step) / sum(self.groups.sizes) * value * (1 - value)

    def _stacks(self, arrays: dict[str, Array]) -> Any:
        return ((path, arrays[path], index) for path, index in self.groups.of.items())

    def _or_not_pruned(self, path: str, mask: Array) -> Array:
        """The mask, and True in the matrices of a stack that are not pruned."""
        index = self.groups.of[path]
        whole = jnp.asarray([group < 0 for group in index]).reshape(-1, *(1,) * (mask.ndim - 1))
        return mask | whole


def _groups(aware: CompressionAwareConfig, params: Params) -> Groups:
    """The groups of the tensors that rules prune, in the order of the tensors."""
    shapes = {name: x for name, x in shapes_of(params).items() if holds_weights(x)}
    pruned = {name for name, rule in select(shapes, aware.rules).items() if rule.prune}
    key = {"global": lambda name: "", "layer": layer_of, "tensor": lambda name: name}[aware.scope]
    numbers, sizes = dict[str, int](), defaultdict[int, int](int)
    of = dict[str, tuple[int, ...]]()
    for path, x in flatten(params).items():
        names, index = tensor_names(path, x), list[int]()
        for name in names:
            group = numbers.setdefault(key(name), len(numbers)) if name in pruned else -1
            index.append(group)
            if group >= 0:
                sizes[group] += shapes[name].size
        if pruned & {*names}:
            of[path] = tuple(index)
    return Groups(of, tuple(sizes[number] for number in range(len(numbers))))
