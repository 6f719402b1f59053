"""Uniform quantization of every tensor in the same way (paper 4.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tlc_jax.compression.select import divided, holds_weights
from tlc_jax.compression.steps import Step
from tlc_jax.config.quantization import QuantSpec, Rule


@dataclass(frozen=True)
class Quantize(Step):
    """Codes of a few bits, for every tensor with weights that no earlier step has decided on."""

    spec: QuantSpec = field(default_factory=QuantSpec)
    matrices_only: bool = False
    """Leave vectors (biases, normalisation) float32."""

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        specs = QuantSpec(8), QuantSpec(3, "row", "mse"), QuantSpec(4, "group:8", zero="float"), QuantSpec(32)
        half = (
            QuantSpec(4, "row", zero="symmetric", range_dtype="bfloat16"),
            QuantSpec(5, "group:8", "mse", "float", "bfloat16"),
        )
        return (
            *(cls(spec) for spec in (*specs, *half)),
            cls(QuantSpec(1, range="percentile:1"), matrices_only=True),
        )

    def choose(self, tensors: Mapping[str, Any], rules: dict[str, Rule]) -> dict[str, Rule]:
        return {name: self._rule(name, tensors[name], rule) for name, rule in rules.items()}

    def _rule(self, name: str, x: Any, rule: Rule) -> Rule:
        if rule.quant is not None or not holds_weights(x) or (self.matrices_only and x.ndim < 2):
            return rule
        return divided(name, x.shape, dataclasses.replace(rule, quant=self.spec))
