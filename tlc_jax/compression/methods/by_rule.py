"""What is done with which tensor, by ordered rules over their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.prune import magnitude_masks
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.select import select
from tlc_jax.compression.steps import Step
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.leaf import Leaf, Masks


@dataclass(frozen=True)
class ByRule(Step):
    """Rules in place of the default ones: which tensors are quantized, how, and which are pruned; those with
    a sparsity of their own are pruned here, each by itself."""

    rules: tuple[Rule, ...]

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        matrices = Rule(r".*kernel", QuantSpec(4, "row"), prune=True, sparsity=0.4)
        return (cls((matrices, Rule(r"(?s).*", QuantSpec(8)))),)

    def choose(self, tensors: Mapping[str, Any], rules: dict[str, Rule]) -> dict[str, Rule]:
        return select(tensors, self.rules)

    def prune(self, tensors: Mapping[str, Any], rules: Mapping[str, Rule], masks: Masks) -> Masks:
        masks = dict(masks)
        for name in tensors:
            if rules[name].prune and (sparsity := rules[name].sparsity):
                masks |= magnitude_masks(tensors, sparsity, previous=masks, names=[name])
        return masks

    def convert(self, name: str, tensor: FloatTensor, rule: Rule, inputs: Any) -> Leaf:
        return quantize_tensor(name, tensor.values, rule.quant, tensor.mask)
