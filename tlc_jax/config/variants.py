"""Variants of a training: options of a config, written as text, in which runs of a study differ."""

from __future__ import annotations

import ast
from dataclasses import fields, is_dataclass, replace
from typing import Any

from tlc_jax.config.run import Config
from tlc_jax.config.validation import check

_NOT_FOR_VARIANTS = {
    "model.num_layers": "is that of a size: give it in sizes",
    "model.hidden_size": "is that of a size: give it in sizes",
    "seed": "is that of a training: give it in seeds",
    "data": "is the same for all runs of a study: give other data a study of their own",
    "evaluation.stop_at": "is what all runs of a study are compared at: give it in train",
}


def with_options(config: Config, text: str) -> Config:
    """The config with options such as batch_size=512,model.shared_layers=all. ValueError names the first that
    it does not have or that is no variant's, or says which value does not fit."""
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        check(bool(equals), f"variants: {part!r} is not FIELD=VALUE")
        for kept, why in _NOT_FOR_VARIANTS.items():
            check(name != kept and not name.startswith(f"{kept}."), f"variants: {name} {why}")
        *path, last = name.split(".")
        inner, node = config, values
        for step in path:
            inner, node = _field(inner, step, name), node.setdefault(step, {})
        check(not is_dataclass(_field(inner, last, name)), f"variants: {name!r} is several options of train")
        node[last] = _parsed(value)
    try:
        return _replaced(config, values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"variants: {text!r}: {error}") from error


def _field(config: Any, field_name: str, name: str) -> Any:
    known = is_dataclass(config) and field_name in {each.name for each in fields(config)}
    check(known, f"variants: {name!r} is no option of train")
    return getattr(config, field_name)


def _replaced(config: Any, values: dict[str, Any]) -> Any:
    """The config with all values at once, since those of several options may fit only each other."""
    inner = {
        name: _replaced(getattr(config, name), value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return replace(config, **inner)


def _parsed(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value  # a word
