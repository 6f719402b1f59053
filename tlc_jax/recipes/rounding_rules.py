"""How a round of recovery rounds the weights of its forward passes: as its plan quantizes them at the end."""

from __future__ import annotations

import re
from collections import defaultdict

from tlc_jax.compression.pipeline import Plan
from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import module_class


def rounding_of(plan: Plan) -> CompressionAwareConfig:
    """The rounding of a plan, by few rules, of which the last is for most tensors. UserError where the plan
    rounds nothing, or where a step stores tensors in a way of its own, which rounding would not be."""
    if converting := [type(step).__name__ for step in plan.recipe if step.leaf is not None]:
        raise UserError(
            f"recovery.quantization_aware trains weights for plain rounding, and {', '.join(converting)} "
            "would store other values: omit one of them"
        )
    names = defaultdict[QuantSpec | None, list[str]](list)
    for name, rule in plan.rules.items():
        names[None if rule.quant is None or rule.quant.bits == 32 else rule.quant].append(name)
    if names.keys() <= {None}:
        raise UserError(
            "recovery.quantization_aware rounds weights, and the recipe leaves all of them at 32 bits: give "
            "--bits"
        )
    *fewer, most = sorted(names, key=lambda spec: (len(names[spec]), min(names[spec])))
    rules = [Rule(_pattern(names[spec], plan.rules), spec) for spec in fewer]
    return CompressionAwareConfig((*rules, Rule("(?s).*", most)))


def _pattern(names: list[str], every: dict[str, Rule]) -> str:
    """A regular expression for these names of all that there are; one for a matrix that all layers have."""
    layers = defaultdict[str, set[str]](set)
    for name in every:
        layers[module_class(name)].add(name)
    pieces = dict[str, None]()
    for name in names:
        kind = module_class(name)
        whole = kind != name and layers[kind] <= set(names)
        pieces[re.escape(kind).replace("layers/", r"layers/\d+/", 1) if whole else re.escape(name)] = None
    return "|".join(pieces)
