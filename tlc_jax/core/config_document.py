"""Config documents: Python files whose `get_config()` returns the options of a command.

A document that has several scales, `get_config(scale: Literal["mini", "gpu"] = "mini")`, is named with one of
them, NAME:SCALE; its bare name means its default.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import inspect
import re
import shlex
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tlc_jax
import tlc_jax.config
from tlc_jax.config.renamed import RENAMED, instead
from tlc_jax.core import invocation
from tlc_jax.core.errors import UserError

Kind = TypeVar("Kind")
_COMMANDS = {
    "Config": "train --config {} --workdir {}",
    "StudyConfig": "study --config {} --workdir {}",
    "CompressConfig": "compress RUN --config {} --out DIR",
}
"""The command that takes a document, by what its `get_config()` returns."""


def config_folder() -> Path:
    """The folder of the documents that have bare names: inside the package in a wheel, beside it in a
    checkout."""
    package = Path(tlc_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """The bare names of the documents there are."""
    return sorted(document.stem for document in config_folder().glob("[!_]*.py"))


def scaled_names(name: str) -> list[str]:
    """The names of a document at each of its scales, such as study_translation:gpu; its bare name where it
    has none. UserError if it fails."""
    path, _ = _find_document(name)
    scales = _scales_of(_get_config(path))
    return [f"{name}:{scale}" for scale in scales] or [name]


def load_config(name: str, kind: type[Kind], workdir: str | None = None) -> Kind:
    """Run a config document, given as a path or a bare name, perhaps with a scale, and return what its
    `get_config()` returns.

    UserError if there is no such document or scale, if it fails, or if it returns something other than a
    `kind`, with the command that takes it, for `workdir`.
    """
    path, scale = _find_document(name)
    get_config = _get_config(path)
    try:
        config = get_config(*_arguments(get_config, scale))
    except (Exception, SystemExit) as error:
        raise UserError(f"--config {path}: {_explain(error)}") from error
    if not isinstance(config, kind):
        raise UserError(f"--config {name}: {_other_kind(type(config).__name__, kind, name, workdir)}")
    return config


def _get_config(path: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(f"tlc_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        get_config: Callable[..., Any] = module.get_config
    except (Exception, SystemExit) as error:
        raise UserError(f"--config {path}: {_explain(error)}") from error
    return get_config


def _other_kind(returned: str, kind: type, name: str, workdir: str | None) -> str:
    """What is wrong with a document that returns no `kind`, and the command that takes it."""
    text = f"get_config() returned {returned}, not {kind.__name__}"
    if returned not in _COMMANDS:
        return text
    usage = _COMMANDS[returned].format(shlex.quote(name), shlex.quote(workdir or "W"))
    return f"{text}; it is for {invocation.command(usage)}"


def _scales_of(get_config: Callable[..., Any]) -> tuple[str, ...]:
    """The scales of a document, by its `get_config`; none where it takes no argument."""
    names = [*inspect.signature(get_config).parameters][:1]
    hints = typing.get_type_hints(get_config)
    return tuple(scale for name in names for scale in typing.get_args(hints.get(name)))


def _arguments(get_config: Callable[..., Any], scale: str) -> tuple[str, ...]:
    """The arguments of a document's `get_config`; ValueError unless it has this scale, or '' is asked for."""
    if not scale:
        return ()
    if scale not in (scales := _scales_of(get_config)):
        there_are = f"it has {', '.join(scales)}" if scales else f"it has no scales: leave :{scale} out"
        raise ValueError(f"no scale {scale!r}; {there_are}")
    return (scale,)


def _find_document(name: str) -> tuple[Path, str]:
    """(document, scale); the scale is '' where none is named."""
    if path := _document(name):
        return path, ""
    document, _, scale = name.rpartition(":")
    if scale and (path := _document(document)):
        return path, scale
    names = config_names()
    near = difflib.get_close_matches(document or name, names, n=1)
    hint = f"; perhaps {near[0]}" if near else ""
    raise UserError(f"--config {name} is no file and no config; there are {', '.join(names)}{hint}")


def _document(name: str) -> Path | None:
    paths = (Path(name), config_folder() / f"{name.removesuffix('.py')}.py") if name else ()
    return next((path for path in paths if path.is_file()), None)


def _explain(error: BaseException) -> str:
    """What is wrong with a config document, in one sentence that names the right field or module."""
    if isinstance(error, ModuleNotFoundError) and str(error.name).startswith("tlc_jax."):
        return f"there is no module {error.name}: import options from tlc_jax.config"
    text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if unknown is None:
        return text
    name, field = unknown.groups()
    if new := RENAMED.get(name, {}).get(field):
        return f"the field {field} of {name} {instead(field, new)}"
    kind: Any = getattr(tlc_jax.config, name, None)
    fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    near = difflib.get_close_matches(field, fields, n=1)
    hint = f"; perhaps {near[0]}" if near else f"; it has {', '.join(fields)}"
    return f"{name} has no field {field}{hint}"
