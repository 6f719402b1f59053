"""A trained model and what a recipe makes of it: what `compress` writes, and what a study measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
from rich.console import Console

from tlc_jax.artifacts.artifact import file_bytes
from tlc_jax.compression.pipeline import Compressed, Plan, choose_rules, make_plan, shrink
from tlc_jax.compression.steps import Model, Recipe
from tlc_jax.core.leaf import Leaf
from tlc_jax.core.progress import stage
from tlc_jax.core.sizes import Sizes
from tlc_jax.core.stacked import Tensors, join, shapes_of, split
from tlc_jax.core.tree import Params
from tlc_jax.models.families import family_of
from tlc_jax.recipes.budget_search import Source
from tlc_jax.recipes.byte_budget import Fit, fit_bytes, has_budget, mixes
from tlc_jax.recipes.calibration import calibrate, statistics_of
from tlc_jax.recipes.fidelity import Fidelity, check_weights, report_idle, report_plan
from tlc_jax.recipes.kept_tokens import trimmed_vocabulary
from tlc_jax.recipes.sensitivity import Divergence
from tlc_jax.recipes.tuning_evaluator import evaluator_of, task_of
from tlc_jax.runs.load import TrainedModel
from tlc_jax.training.rounded import Rounding


@dataclass(frozen=True)
class CompressedModel:
    """`model` is the trained model, without the layers, heads and units that the recipe removes, and
    `tensors` are its tensors on the host. `fit` is what was found for a byte budget, if the recipe has
    one."""

    model: TrainedModel
    tensors: Tensors
    compressed: Compressed
    fit: Fit | None = None

    @property
    def params(self) -> Params:
        """The parameters that the artifact is loaded with."""
        return join(self.compressed.dense())

    @property
    def sizes(self) -> Sizes:
        """In the paper's measure and in that of the format."""
        return self.compressed.sizes()

    def file_bytes(self, coding: str) -> int:
        """The size of the artifact's weights file."""
        return file_bytes(((name, leaf) for name, leaf, _ in self.items(Fidelity())), coding)

    def items(self, fidelity: Fidelity) -> list[tuple[str, Leaf, dict[str, Any]]]:
        """What an artifact holds of each tensor, in the order of its file; errors are added to `fidelity`."""
        leaves, rules = self.compressed.tensors, self.compressed.rules
        entries = {
            name: fidelity.add(name, x, leaves[name].dense(), rules[name]) for name, x in self.tensors.items()
        }
        return [(name, leaves[name], entries[name]) for name in sorted(entries)]


def compress_model(
    model: TrainedModel, recipe: Recipe, console: Console, text: str | None = None
) -> CompressedModel:
    """Compress a trained model in memory; what is pruned of it already stays pruned. `text` is a file
    that takes the place of the training data in steps that need calibration data. UserError if its
    weights are not finite, before or after."""
    model = shrunk(model, recipe, console, text)
    tensors = split(jax.device_get(model.params))  # one device is enough
    fit = None
    if has_budget(recipe):
        evaluator, inputs = evaluator_of(model), statistics_of(model, console, text)
        damage = Divergence(evaluator.task, tensors, model.config)
        fit = fit_bytes(recipe, Source(tensors, model.masks, damage, tensors, inputs), evaluator, console)
        plan = fit.plan
    else:
        inputs = calibrate(model, recipe, console, text)
        plan = make_plan(tensors, recipe, masks=model.masks, inputs=inputs)
    return by_plan(model, tensors, plan, console, fit)


def mixed_models(
    model: TrainedModel, recipe: Recipe, budgets: Iterable[int], console: Console, text: str | None = None
) -> Iterator[CompressedModel]:
    """The model with the mix of each byte budget (byte_budget.py), up to the last that can be reached. They
    follow from the model and its training data alone."""
    assert has_budget(recipe)
    model = shrunk(model, recipe, console, text)
    tensors = split(jax.device_get(model.params))
    damage = Divergence(task_of(model), tensors, model.config)
    for fit in mixes(recipe, Source(tensors, model.masks, damage, tensors), budgets, console):
        yield by_plan(model, tensors, fit.plan, console, fit)


def by_plan(
    model: TrainedModel, tensors: Tensors, plan: Plan, console: Console, fit: Fit | None
) -> CompressedModel:
    """A model that has been shrunk, compressed by a plan."""
    for name, x in tensors.items():
        check_weights(name, x, plan.rules[name], console)
    report_plan(plan, console)
    leaves = dict[str, Leaf]()
    with stage(console, "compressing", len(tensors), "tensors", only_long=True) as advance:
        for name, x in tensors.items():
            leaves[name] = plan.convert(name, x)
            advance(1)
    report_idle(plan, console)
    return CompressedModel(model, tensors, Compressed(leaves, plan.masks, plan.rules), fit)


def to_round(model: TrainedModel, recipe: Recipe) -> TrainedModel:
    """The model with the weights that its run trains, where that rounds them as the recipe does: what is
    written is then what the run evaluated. Else with the rounded ones, which are those that it is good
    with."""
    rounding = Rounding.of(model.config.compression_aware, model.params)
    if rounding is None:
        return model
    rules, _ = choose_rules(shapes_of(model.params), recipe)
    same = all(rules[name].quant == spec for name, spec in rounding.specs.items())
    return model.before_rounding() if same else model


def shrunk(model: TrainedModel, recipe: Recipe, console: Console, text: str | None = None) -> TrainedModel:
    """The model without the layers, heads, units and tokens that a recipe removes."""
    shape, vocabulary = model.config.model, model.vocabulary
    family = family_of(shape)
    if any(step.reads_tokens for step in recipe):
        vocabulary = trimmed_vocabulary(model, text, console)
    before = Model(
        model.params,
        shape,
        family.prunable_units(shape),
        model.masks,
        None if vocabulary is None else vocabulary.kept,
        family.keep_tokens,
    )
    after = shrink(before, recipe)
    if after is before:
        return model
    config = dataclasses.replace(model.config, model=after.config)
    return dataclasses.replace(
        model, params=after.params, config=config, masks=after.masks, vocabulary=vocabulary
    )
