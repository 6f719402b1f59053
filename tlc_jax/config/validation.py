"""Checks of configs, which are written by hand: conditions, and values against annotations."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal, Union

_UNIONS = (Union, types.UnionType)


def check(condition: bool, message: str) -> None:
    """ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_fields(
    config: Any, part: str, names: Iterable[str], fits: Callable[[Any], bool], wanted: str
) -> None:
    """ValueError naming the first of these fields whose value does not fit, unless it is None. `part` is the
    beginning of their options' names, such as `model.`; `wanted` says what they must be."""
    for name in names:
        value = getattr(config, name)
        check(value is None or fits(value), f"{part}{name} must be {wanted}, not {value}")


def check_types(instance: Any) -> None:
    """TypeError naming the first field whose value does not match its annotation."""
    for name, hint in _hints(type(instance)).items():
        value = getattr(instance, name)
        if not _fits(value, hint):
            kind = type(instance).__name__
            raise TypeError(f"{kind}.{name} must be {_text(hint)}, not {value!r}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _text(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(option) for option in arguments)
    if typing.get_origin(hint) in _UNIONS:
        return " or ".join(_text(option) for option in arguments)
    if typing.get_origin(hint) is tuple:
        return f"a tuple of {_text(arguments[0])}"
    return "None" if hint is type(None) else hint.__name__
