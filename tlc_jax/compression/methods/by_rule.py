"""What is done with which tensor, by ordered rules over their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlc_jax.compression.input_statistics import Statistics
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.select import divided, holds_weights, select
from tlc_jax.compression.steps import Step
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.leaf import Masks


@dataclass(frozen=True)
class ByRule(Step):
    """Rules for the tensors that they match, unless an earlier step says how these are quantized: whether and
    how they are quantized, and whether they are pruned; those with a sparsity of their own are pruned here,
    each by itself."""

    rules: tuple[Rule, ...]

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        matrices = Rule(r".*kernel", QuantSpec(4, "row"), prune=True, sparsity=0.4)
        return cls((matrices, Rule(r"(?s).*", QuantSpec(8)))), cls((matrices,))

    def choose(self, tensors: Mapping[str, Any], rules: dict[str, Rule]) -> dict[str, Rule]:
        chosen = {
            name: divided(name, tensors[name].shape, _whole(rule, rules[name]))
            for name, rule in select(tensors, self.rules).items()
            if rules[name].quant is None and holds_weights(tensors[name])
        }
        return {**rules, **chosen}

    def prune(
        self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks, inputs: Statistics
    ) -> Masks:
        return prune_each(tensors, rules, masks)


def _whole(rule: Rule, before: Rule) -> Rule:
    """A rule that says all: without a way to quantize it means float32, and without a reason not to prune,
    the reason of the rule `before` it."""
    why = rule.why or ("" if rule.prune else before.why)
    return dataclasses.replace(rule, quant=rule.quant or QuantSpec(32), why=why)


def prune_each(tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks) -> Masks:
    """The masks, with those of tensors whose rules have a sparsity of their own, each pruned by itself."""
    masks = dict(masks)
    for name in tensors:
        if sparsity := rules[name].sparsity:
            masks |= magnitude_masks(tensors, sparsity, previous=masks, names=[name])
    return masks
