"""Command lines: a config document, typed overrides of its fields, and errors that say what to do.

A door is a dataclass with its own options, a field `config: str` and a field `settings` that holds
the config; tyro parses it with the document's values as defaults. No numpy or jax here: `--help`
answers at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import itertools
import re
import shlex
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

import tlc_jax
from tlc_jax.config import Config
from tlc_jax.core.errors import UserError

Door = TypeVar("Door")
Kind = TypeVar("Kind")
Settings = Annotated[Kind, tyro.conf.arg(name="")]
"""`Settings[Config]`: a field whose own fields are options without a prefix."""
Positional = Annotated[Kind, tyro.conf.Positional]
"""`Positional[str]`: an argument without a name."""
_OPTIONS = (  # help comes from docstrings; to look for comments as well takes 30 ms
    tyro.conf.AvoidSubcommands,
    tyro.conf.HelptextFromCommentsOff,
)


def parse(
    door: type[Door], argv: Sequence[str] | None = None, command: str | None = None, usual: Any = None
) -> Door:
    """Parses a command line; the fields of the config that `--config` names are the defaults, or else those
    of `usual`, or else the config's own.

    `command` is what a person types after `python -m tlc_jax.`; None: the door's name. A flag has its
    negative, since a document may have set it.

    Ends the process with exit code 2 and one message where a key or a value is wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = option(arguments, "--config")
    kind = typing.get_type_hints(door)["settings"]
    settings = (usual or kind()) if name is None else load_config(name, kind)
    required = {field.name: tyro.MISSING for field in dataclasses.fields(door) if _required(field)}  # type: ignore[arg-type]
    default = door(**{**required, "settings": settings})
    prog = f"python -m tlc_jax.{command or door.__name__.lower()}"
    try:
        return tyro.cli(door, args=arguments, default=default, prog=prog, config=_OPTIONS)
    except ValueError as error:  # a check of the whole config; tyro boxes those of its parts
        raise UserError(str(error)) from error


def parse_plain(door: type[Door], argv: Sequence[str] | None = None, command: str | None = None) -> Door:
    """Parses a command line of a door without a config document; `command` as for `parse`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prog = f"python -m tlc_jax.{command or door.__name__.lower()}"
    return tyro.cli(door, args=arguments, prog=prog, config=(*_OPTIONS, tyro.conf.FlagCreatePairsOff))


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option that must be known before the others can be parsed."""
    values = [after for before, after in itertools.pairwise(arguments) if before == name]
    values += [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    if len(values) > 1:
        raise UserError(f"{name} is given {len(values)} times, as {', '.join(values)}: give it once")
    return values[0] if values else None


def changed(arguments: Sequence[str], options: Mapping[str, str | None]) -> str:
    """The command line with these values in place of those that it has, to be pasted after `python -m
    tlc_jax.NAME`; None: a flag."""
    kept, left_out = list[str](), False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        name = name.replace("--no-", "--")
        if name in options:
            left_out = not equals and options[name] is not None
        elif left_out:
            left_out = False
        else:
            kept.append(argument)
    added = (part for name, value in options.items() for part in (name, value) if part is not None)
    return shlex.join([*kept, *added])


def config_folder() -> Path:
    """Where a bare name is looked up: inside the package in a wheel, beside it in a checkout."""
    package = Path(tlc_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def load_config(name: str, kind: type[Kind]) -> Kind:
    """Runs a config document, given as a path or a bare name, and returns what `get_config()` gives.

    Raises UserError if there is none, if it fails, or if it gives something else than a `kind`.
    """
    path = Path(name)
    if not path.is_file():
        folder = config_folder()
        path = folder / f"{name.removesuffix('.py')}.py"
        if not path.is_file():
            known = sorted(document.stem for document in folder.glob("[!_]*.py"))
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; perhaps {near[0]}" if near else ""
            raise UserError(f"--config {name} is no file and no config; there are {', '.join(known)}{hint}")
    spec = importlib.util.spec_from_file_location(f"tlc_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except (Exception, SystemExit) as error:
        raise UserError(f"--config {path}: {_explain(error, kind)}") from error
    if not isinstance(config, kind):
        found = type(config).__name__
        raise UserError(f"--config {path}: get_config() returned {found}, not {kind.__name__}")
    return config


def _explain(error: BaseException, kind: type) -> str:
    """The message of an error in a config document, with the nearest field for a misspelt one."""
    text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text)
    if unknown is None:
        return text
    homes = (sys.modules[Config.__module__], sys.modules[kind.__module__])
    named: Any = next((vars(home)[unknown[1]] for home in homes if unknown[1] in vars(home)), None)
    names = [field.name for field in dataclasses.fields(named)] if dataclasses.is_dataclass(named) else []
    near = difflib.get_close_matches(unknown[2], names, n=1)
    hint = f"; perhaps {near[0]}" if near else f"; it has {', '.join(names)}"
    return f"{unknown[1]} has no field {unknown[2]}{hint}"
