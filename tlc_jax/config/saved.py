"""Configs as they are kept in files: read back, compared, and identified by a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Collection
from typing import Any

from tlc_jax.config.renamed import ADDED, members, upgraded
from tlc_jax.config.run import FREE_ON_RESUME, Config


def flat(config: Any) -> dict[str, Any]:
    """`{'model.num_layers': 12, ...}`: every field of a config, or of a config.json, by its option's name."""
    options: dict[str, Any] = {}
    for name, value in (config if isinstance(config, dict) else vars(config)).items():
        if isinstance(value, dict) or dataclasses.is_dataclass(value):
            options |= {f"{name}.{field}": inner for field, inner in flat(value).items()}
        else:
            options[name] = value
    return options


def digest(document: dict[str, Any]) -> str:
    """SHA-256 of all fields of a config.json that may not change when a run is resumed, by the names that
    they had in the version that began the run."""
    fixed = {option: value for option, value in flat(document).items() if option not in FREE_ON_RESUME}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def differences(new: dict[str, Any], old: dict[str, Any], owner: str, free: Collection[str] = ()) -> str:
    """One sentence on each option that is not the same in both, but for those that are `free`; '' if all
    are."""
    return "; ".join(
        f"{name} is {new.get(name)!r} but {owner} has {old.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in free
    )


def as_begun(config: Config, document: dict[str, Any]) -> Config:
    """The config for the run of this config.json, which an older version may have begun: fields it did not
    have describe what it did."""
    for part, value in vars(config).items():
        added = {} if not isinstance(document.get(part), dict) else ADDED.get(type(value).__name__, {})
        missing = {name: was for name, was in added.items() if name not in document[part]}
        config = (
            dataclasses.replace(config, **{part: dataclasses.replace(value, **missing)})
            if missing
            else config
        )
    return config


def config_from_json(value: Any, kind: type = Config) -> Any:
    """The dataclass that `dataclasses.asdict` made `value` of, in this version or an older one. ValueError or
    TypeError where a key is unknown or missing, or a value is not what its field may be."""
    if not isinstance(value, dict):
        raise ValueError(f"{kind.__name__} must be an object of JSON, not {value!r}")
    values = upgraded(kind, value)
    if values.keys() != _names(kind):
        raise ValueError(f"{kind.__name__}: unknown or missing keys {sorted(values.keys() ^ _names(kind))}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _field_from_json(hints[name], inner) for name, inner in values.items()})


def _field_from_json(hint: Any, value: Any) -> Any:
    if isinstance(value, list) and typing.get_origin(hint) is tuple:
        return tuple(_field_from_json(typing.get_args(hint)[0], item) for item in value)
    if not isinstance(value, dict):
        return value
    kinds = members(hint)
    if len(kinds) != 1:
        kinds = [kind for kind in kinds if upgraded(kind, value).keys() == _names(kind)]
    if not kinds:
        options = [kind.__name__ for kind in members(hint)]
        raise ValueError(f"{sorted(value)} are the fields of none of {options}")
    return config_from_json(value, kinds[0])


def _names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
