"""Paths of parameters (`encoder/layers/attention/query/kernel`) and ordered rules over them.

Weight decay, sharding, pruning, quantization and export use the same idiom: an ordered list of
(regex, value); the first regex that matches the whole path wins; a parameter without a rule
and a rule without a parameter are errors that name them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from tlc_jax.core.errors import UserError

Value = TypeVar("Value")
Params = dict[str, Any]
"""A plain nested dict of arrays with string keys."""


def flatten(params: Params) -> dict[str, Any]:
    """`{path: leaf}` in the order of the tree; paths are keys joined by '/'. What has a shape is a leaf."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=lambda node: hasattr(node, "shape"))
    return {"/".join(key.key for key in path): leaf for path, leaf in leaves}


def map_with_path(function: Callable[..., Any], params: Params, *others: Params) -> Params:
    """A tree of function(path, leaf, *leaves of `others` at that path), which may be None there."""

    def go(prefix: str, node: Any, *rest: Any) -> Any:
        if not isinstance(node, dict):
            return function(prefix.removesuffix("/"), node, *rest)
        return {key: go(f"{prefix}{key}/", node[key], *(other[key] for other in rest)) for key in node}

    return go("", params, *others)


def count(params: Params) -> int:
    """The number of parameters in the tree; leaves need only a shape."""
    return sum(leaf.size for leaf in flatten(params).values())


def match_rules(rules: Sequence[tuple[str, Value]], params: Params) -> Any:
    """A tree like `params` that holds, for each parameter, the value of the first rule that matches.

    Raises UserError naming every parameter without a rule and every rule that matches no parameter.
    """
    matched: set[int] = set()
    unmatched: list[str] = []

    names: dict[str, list[int]] = {}  # of rules that are names: re would try them all for each path
    regexes: list[tuple[int, re.Pattern[str]]] = []
    for i, (pattern, _) in enumerate(rules):
        literals = _literals(pattern)
        for name in literals:
            names.setdefault(name, []).append(i)
        if not literals:
            regexes.append((i, re.compile(pattern)))

    def value_of(path: str) -> Value | None:
        hits = sorted([*names.get(path, ()), *(i for i, regex in regexes if regex.fullmatch(path))])
        matched.update(hits)
        if not hits:
            unmatched.append(path)
            return None
        return rules[hits[0]][1]

    flat = flatten(params)
    values = [value_of(path) for path in flat]
    idle = [pattern for i, (pattern, _) in enumerate(rules) if i not in matched]
    if unmatched:
        raise UserError(f"no rule matches the parameters {', '.join(unmatched)}: add a rule for them")
    if idle:
        raise UserError(f"the rules {', '.join(idle)} match no parameter: correct or remove them")
    return jax.tree.unflatten(jax.tree.structure(params), values)


def _literals(pattern: str) -> list[str]:
    """The names that a regex a|b|c of escaped names matches; none of any other regex."""
    names = [re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in re.split(r"(?<!\\)\|", pattern)]
    return names if "|".join(map(re.escape, names)) == pattern else []
