"""Rules for the tensors of a model: which are pruned and quantized, how, and why the others are not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from tlc_jax.compression.quantize import row_length
from tlc_jax.config.quantization import Rule
from tlc_jax.core.errors import UserError
from tlc_jax.core.tree import match_rules

# manifests contain this text
UNDIVIDED = "one range a row: groups do not divide its rows"
_HEAD = "classification_head/"


def default_rules(tensors: Mapping[str, Any]) -> dict[str, Rule]:
    """The paper's rules: all matrices may be pruned, the embeddings among them (4.3), vectors may not.

    Nor may the head of a classification: finetuning leaves its weights so small that at 60 % next to nothing
    of it is left, and the model gives one class to everything."""
    reasons = {name: _not_pruned(name, x) for name, x in tensors.items()}
    return {name: Rule(re.escape(name), prune=not why, why=why) for name, why in reasons.items()}


def _not_pruned(name: str, x: Any) -> str:
    if not holds_weights(x):
        return "no weights"
    if x.ndim < 2:
        return f"not pruned: a {'vector' if x.ndim else 'scalar'}"
    if name.startswith(_HEAD):
        return "not pruned: the head of a classification, whose weights are the smallest"
    return ""


def holds_weights(x: Any) -> bool:
    """Whether an array, or its shape and dtype, is of floats."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def select(tensors: Mapping[str, Any], rules: Sequence[Rule]) -> dict[str, Rule]:
    """The rule of each tensor that a rule matches. UserError names rules without a tensor."""
    others = [(re.escape(name), None) for name in tensors]
    matched = match_rules([*((rule.pattern, rule) for rule in rules), *others], dict(tensors))
    selected = {name: rule for name, rule in matched.items() if rule is not None}
    for name, rule in selected.items():
        if rule.prune and tensors[name].ndim < 2:
            raise UserError(
                f"the rule {rule.pattern} prunes {name}, which is a vector: pruning is for matrices"
            )
    return selected


def undivided(selected: dict[str, Rule]) -> list[str]:
    """The tensors that have one range per row because groups do not divide their rows."""
    return [name for name, rule in selected.items() if UNDIVIDED in rule.why]


def divided(name: str, shape: tuple[int, ...], rule: Rule) -> Rule:
    """The rule, with one range per row in place of groups that do not divide the rows of this tensor."""
    spec = rule.quant
    if spec is None or spec.group_size is None or not row_length(name, shape) % spec.group_size:
        return rule
    return dataclasses.replace(rule, quant=dataclasses.replace(spec, granularity="row")).noting(UNDIVIDED)
