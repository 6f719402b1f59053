"""The one way from tensors to compressed tensors: a recipe is planned, then tensors are converted one by one.

    plan = make_plan(tensors, recipe)            # rules and masks of all tensors
    leaf = plan.convert(name, tensors[name])     # one tensor: nothing but masks is held besides
    compressed = compress(tensors, recipe)       # both, of a whole model

Steps cannot contradict each other, whatever their order: pruning comes before conversion, and masks only
grow; the first step that says how a tensor is quantized decides that, and the first that converts it, how it
is stored; what none converts is quantized at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import numpy as np

from tlc_jax.compression.input_statistics import Statistics
from tlc_jax.compression.methods import ByRule, KeepUnits, PruneMagnitude, PruneMovement, Quantize
from tlc_jax.compression.methods.fit_bytes import FitBytes
from tlc_jax.compression.plain import plain
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.select import default_rules
from tlc_jax.compression.steps import Model, Needs, Recipe, Step
from tlc_jax.config.compression import CompressConfig
from tlc_jax.config.quantization import Rule
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Leaf, Masks
from tlc_jax.core.sizes import Sizes
from tlc_jax.core.stacked import Tensors


@dataclass(frozen=True)
class Compressed:
    """A leaf of each tensor, the masks of what is pruned, and the rule of each tensor."""

    tensors: dict[str, Leaf]
    masks: Masks
    rules: dict[str, Rule]

    def dense(self) -> Tensors:
        """The tensors that another program would compute with."""
        return {name: leaf.dense() for name, leaf in self.tensors.items()}

    def sizes(self) -> Sizes:
        """Of all tensors together."""
        return sum((leaf.sizes() for leaf in self.tensors.values()), Sizes())


@dataclass(frozen=True)
class Plan:
    """What a recipe does with each tensor; `masks` are of all that is pruned, now and before. `undone` has
    the tensors that steps leave alone, by reason; `acted` the steps that have decided or converted."""

    recipe: Recipe
    rules: dict[str, Rule]
    masks: Masks
    inputs: Statistics = field(default_factory=dict)
    undone: Mapping[str, list[str]] = field(default_factory=dict)
    acted: set[int] = field(default_factory=set)

    def convert(self, name: str, x: Any) -> Leaf:
        """The leaf of one tensor. A request to stop is obeyed."""
        leaf = self.convert_by_steps(name, x)
        if (floats := leaf.unconverted()) is None:
            return leaf
        return quantize_tensor(name, floats.values, self.rules[name].quant, floats.mask)

    def convert_by_steps(self, name: str, x: Any) -> Leaf:
        """The leaf of one tensor as the steps store it: floats where none of them converts it."""
        stopping.check()
        leaf = plain(x, self.masks.get(name))
        for index, step in enumerate(self.recipe):
            if (floats := leaf.unconverted()) is not None:
                leaf = step.convert(name, floats, self.rules[name], self.inputs.get(name))
                if leaf is not floats:
                    self.acted.add(index)
        return leaf

    def idle(self) -> list[int]:
        """The indices of steps that neither decided anything nor, once all tensors are converted, converted
        any, although that is what they are for."""
        return [
            index
            for index, step in enumerate(self.recipe)
            if index not in self.acted
            and any(
                (
                    step.leaf is not None,
                    type(step).choose is not Step.choose,
                    type(step).prune is not Step.prune,
                )
            )
        ]


def make_plan(
    tensors: Mapping[str, Any],
    recipe: Recipe,
    *,
    masks: Masks | None = None,
    inputs: Statistics | None = None,
    shapes: Mapping[str, Any] | None = None,
) -> Plan:
    """Choose and prune. `masks` are of what is pruned already, and stays so; `inputs` has statistics of the
    tensors' inputs in calibration data. Tensors may be read from files whenever they are asked for: one at a
    time is in memory. `shapes` has the shape and dtype of each, where these are known without reading.

    UserError where a step needs what is not there, or where a rule does not fit the tensors."""
    for step in recipe:
        if step.needs is not Needs.NOTHING and (step.needs is not Needs.CALIBRATION or inputs is None):
            name = type(step).__name__
            text = ", or --calibration-text" if step.needs is Needs.CALIBRATION else ", not --hf"
            raise UserError(f"{name} needs {step.needs.value}: that takes a run{text}")
    if shapes is None:
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in tensors.items()}
    rules, acted = choose_rules(shapes, recipe)
    pruned = dict(masks or {})
    for index, step in enumerate(recipe):
        pruned, before = step.prune(tensors, rules, pruned, inputs or {}), pruned
        if type(step).prune is not Step.prune and (masks or _more(pruned, before)):
            acted.add(index)  # with masks from before, rounds may have done what the step is to do
    undone: dict[str, list[str]] = {}
    for name, rule in rules.items():
        reasons = [step.undone(name, shapes[name], rule, pruned.get(name)) for step in recipe]
        for reason in filter(None, dict.fromkeys(reasons)):
            rules[name] = rules[name].noting(reason)
            undone.setdefault(reason, []).append(name)
    return Plan(recipe, rules, pruned, inputs or {}, undone, acted)


def _more(after: Masks, before: Masks) -> bool:
    """Whether more weights are pruned than before."""
    return any(
        np.count_nonzero(mask)
        < (np.size(mask) if before.get(name) is None else np.count_nonzero(before[name]))
        for name, mask in after.items()
        if mask is not None
    )


def choose_rules(shapes: Mapping[str, Any], recipe: Recipe) -> tuple[dict[str, Rule], set[int]]:
    """(the rule that the steps choose for each tensor, the indices of steps that have changed one)."""
    rules, acted = default_rules(shapes), set[int]()
    for index, step in enumerate(recipe):
        rules, before = step.choose(shapes, rules), rules
        if rules != before:
            acted.add(index)
    return rules, acted


def compress(
    tensors: Mapping[str, Any],
    recipe: Recipe,
    *,
    masks: Masks | None = None,
    inputs: Statistics | None = None,
) -> Compressed:
    """A whole model, compressed in memory; arguments as those of `make_plan`."""
    plan = make_plan(tensors, recipe, masks=masks, inputs=inputs)
    leaves = {name: plan.convert(name, x) for name, x in tensors.items()}
    return Compressed(leaves, plan.masks, plan.rules)


def shrink(model: Model, recipe: Recipe) -> Model:
    """The smaller model that the recipe's steps leave; the same one where none removes anything."""
    for step in recipe:
        model = step.shrink(model)
    return model


def shrinks(recipe: Recipe) -> bool:
    """Whether the recipe may remove parts of a model, which takes more than its tensors."""
    return any(type(step).shrink is not Step.shrink for step in recipe)


def recipe_of(config: CompressConfig) -> Recipe:
    """The steps that a config stands for: its options are the short form of common recipes."""
    steps: list[Step] = []
    if config.heads is not None or config.feed_forward_size is not None:
        steps.append(KeepUnits(config.heads, config.feed_forward_size))
    if config.ignore:
        steps.append(ByRule((Rule(config.ignore, why="left as it is: --ignore"),)))
    if config.rules:
        steps.append(ByRule(config.rules))
    if config.recovery is not None and config.recovery.movement is not None:
        steps.append(PruneMovement(config.sparsity or None, config.scope, config.recovery))
    elif config.sparsity or config.recovery is not None:
        steps.append(
            PruneMagnitude(config.sparsity, config.scope, config.max_tensor_sparsity, config.recovery)
        )
    steps += cast(Recipe, config.steps)
    if config.target_mb is not None:
        steps.append(FitBytes(config.target_mb, config.spec, config.matrices_only))
    else:
        steps.append(Quantize(config.spec, config.matrices_only))
    return tuple(steps)
