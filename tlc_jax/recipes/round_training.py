"""What the forward passes of a round of recovery see of the weights: what its plan makes of them at the
end."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict

from tlc_jax.compression.pipeline import Plan
from tlc_jax.config.compression_aware import CompressionAwareConfig
from tlc_jax.config.quantization import QuantSpec, Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.stacked import module_class

What = tuple[QuantSpec | None, bool]
"""How a tensor is rounded, and whether movement prunes it."""


def aware_of(plan: Plan, learnt: CompressionAwareConfig, rounds: bool) -> CompressionAwareConfig:
    """The options of a round's training, by few rules, of which the last is for most tensors: weights are
    pruned as `learnt` says, and rounded as the plan says if it `rounds`. UserError where a plan does not go
    with that."""
    if not rounds and learnt.movement is None:
        return CompressionAwareConfig()
    if learnt.movement is not None and plan.masks:
        raise UserError(
            f"recovery.movement learns which weights to prune, and some are pruned already, such as those of "
            f"{min(plan.masks)}: begin with a run that is not pruned, and leave out other pruning"
        )
    names = defaultdict[What, list[str]](list)
    for name, rule in plan.rules.items():
        quant = rule.quant if rounds and rule.quant is not None and rule.quant.bits <= 8 else None
        names[quant, learnt.movement is not None and rule.prune].append(name)
    _check(plan, {quant for quant, _ in names} if rounds else set())
    *fewer, most = sorted(names, key=lambda what: (len(names[what]), min(names[what])))
    patterns = [*((what, _pattern(names[what], plan.rules)) for what in fewer), (most, "(?s).*")]
    rules = tuple(Rule(pattern, quant, prune) for (quant, prune), pattern in patterns)
    return dataclasses.replace(learnt, rules=rules)


def _check(plan: Plan, specs: set[QuantSpec | None]) -> None:
    """UserError where a plan that is to round rounds nothing, or where a step stores tensors in a way of its
    own, which rounding would not be."""
    converting = [type(step).__name__ for step in plan.recipe if step.leaf is not None]
    if specs and converting:
        raise UserError(
            f"recovery.quantization_aware trains weights for plain rounding, and {', '.join(converting)} "
            "would store other values: omit one of them"
        )
    if specs and specs <= {None}:
        raise UserError(
            "recovery.quantization_aware rounds weights, and the recipe leaves all of them at 32 bits: give "
            "--bits"
        )


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
