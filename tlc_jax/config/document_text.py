"""Config documents that a program writes: the Python text whose `get_config()` returns a config."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

_INDENT = "    "
_PACKAGE = "tlc_jax.config"  # which exports what documents need


def document_text(config: Any, docstring: str) -> str:
    """A document that names only the fields whose values are not the defaults. All values are of Python, or
    dataclasses of theirs."""
    classes = dict(sorted(_classes(config).items()))
    imports = "\n".join(_import(module, sorted(names)) for module, names in classes.items())
    name = type(config).__name__
    return (
        f'"""{docstring}"""\n\n{imports}\n\n\n'
        f"def get_config() -> {name}:\n{_INDENT}return {_text(config, 1)}\n"
    )


def _import(module: str, names: list[str]) -> str:
    if len(names) == 1:
        return f"from {module} import {names[0]}"
    return _lines(f"from {module} import (", [f"{name}," for name in names], ")", 0)


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that do not have their default values."""
    changed = {}
    for field in dataclasses.fields(value):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        current = getattr(value, field.name)
        if field.init and (type(current) is not type(default) or current != default):
            changed[field.name] = current
    return changed


def _text(value: Any, depth: int) -> str:
    if isinstance(value, tuple):
        parts = [f"{_text(each, depth + 1)}," for each in value]
        return _lines("(", parts, ")", depth) if any(map(dataclasses.is_dataclass, value)) else repr(value)
    if not dataclasses.is_dataclass(value):
        return _literal(value)
    name, fields = type(value).__name__, _fields(value)
    parts = [f"{field}={_text(each, depth + 1)}," for field, each in fields.items()]
    return _lines(f"{name}(", parts, ")", depth) if parts else f"{name}()"


def _lines(start: str, parts: list[str], end: str, depth: int) -> str:
    inner = "".join(f"{_INDENT * (depth + 1)}{part}\n" for part in parts)
    return f"{start}\n{inner}{_INDENT * depth}{end}"


def _classes(value: Any) -> dict[str, set[str]]:
    """The names of the dataclasses that a text needs, by their modules."""
    values = value if isinstance(value, tuple) else ()
    classes: dict[str, set[str]] = {}
    if dataclasses.is_dataclass(value):
        module = type(value).__module__
        classes[_PACKAGE if module.startswith(f"{_PACKAGE}.") else module] = {type(value).__name__}
        values = tuple(_fields(value).values())
    for each in values:
        for module, names in _classes(each).items():
            classes.setdefault(module, set()).update(names)
    return classes
