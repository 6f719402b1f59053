"""Command lines: a config document, typed overrides of its fields, and errors that say what to do.

A command is a dataclass with its own options and, if it takes a config document, the fields `config: str`
(the document) and `settings: Settings[Config]` (its values). Neither numpy nor jax is imported here:
`--help` answers at once.
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
import tlc_jax.config
from tlc_jax.config.renamed import RENAMED, instead, renamed_option
from tlc_jax.core.errors import UserError

Command = TypeVar("Command")
Kind = TypeVar("Kind")
Settings = Annotated[Kind, tyro.conf.arg(name="")]
"""`Settings[Config]`: a field whose own fields are options without a prefix."""
Positional = Annotated[Kind, tyro.conf.Positional]
"""`Positional[str]`: an argument without a name."""
Model = Annotated[
    Kind,
    tyro.conf.arg(
        help="A run directory (its newest checkpoint), RUN@MARK (the checkpoint kept at a mark), RUN@lastN "
        "(the mean of its newest N checkpoints), or an artifact."
    ),
]
"""`Model[str]`: what `load_model` takes."""
_OPTIONS = (  # help comes from docstrings; looking for comments as well takes 30 ms
    tyro.conf.AvoidSubcommands,
    tyro.conf.HelptextFromCommentsOff,
)


def parse(
    command: type[Command],
    argv: Sequence[str] | None = None,
    name: str | None = None,
    settings: Any = None,
) -> Command:
    """Parse the command line of a command with a config document.

    Defaults are the fields of the document that `--config` names; without one, those of `settings`, or else
    the config's own. `name` is what follows `python -m tlc_jax.`; None: the name of the dataclass. Every
    flag has a negative, since a document may have set it.

    Ends the process with exit code 2 and one message if an option or a value is wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    kind = typing.get_type_hints(command)["settings"]
    for argument in arguments:
        if new := renamed_option(kind, old := argument.partition("=")[0]):
            raise UserError(f"{old} {instead(old.rpartition('.')[2], new)}")
    document = option(arguments, "--config")
    values = (settings or kind()) if document is None else load_config(document, kind)
    required = {field.name: tyro.MISSING for field in dataclasses.fields(command) if _required(field)}  # type: ignore[arg-type]
    default = command(**{**required, "settings": values})
    try:
        return tyro.cli(command, args=arguments, default=default, prog=_prog(command, name), config=_OPTIONS)
    except ValueError as error:  # a check of the whole config; tyro formats those of its parts
        raise UserError(str(error)) from error


def parse_plain(
    command: type[Command], argv: Sequence[str] | None = None, name: str | None = None
) -> Command:
    """Parse the command line of a command without a config document; `name` as in `parse`."""
    options = (*_OPTIONS, tyro.conf.FlagCreatePairsOff)
    return tyro.cli(command, args=argv, prog=_prog(command, name), config=options)


def _prog(command: type, name: str | None) -> str:
    return f"python -m tlc_jax.{name or command.__name__.lower()}"


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option that is needed before the others can be parsed."""
    values = [after for before, after in itertools.pairwise(arguments) if before == name]
    values += [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    if len(values) > 1:
        raise UserError(f"{name} is given {len(values)} times, as {', '.join(values)}: give it once")
    return values[0] if values else None


def changed(arguments: Sequence[str], options: Mapping[str, str | None]) -> str:
    """The command line with these options in place of those it has, to be pasted after `python -m
    tlc_jax.NAME`. The value None stands for a flag."""
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
    """The folder of the documents that have bare names: inside the package in a wheel, beside it in a
    checkout."""
    package = Path(tlc_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def load_config(name: str, kind: type[Kind]) -> Kind:
    """Run a config document, given as a path or a bare name, and return what its `get_config()` returns.

    UserError if there is no such document, if it fails, or if it returns something other than a `kind`.
    """
    path = _find_document(name)
    spec = importlib.util.spec_from_file_location(f"tlc_jax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except (Exception, SystemExit) as error:
        raise UserError(f"--config {path}: {_explain(error)}") from error
    if not isinstance(config, kind):
        returned = type(config).__name__
        raise UserError(f"--config {path}: get_config() returned {returned}, not {kind.__name__}")
    return config


def _find_document(name: str) -> Path:
    if (path := Path(name)).is_file():
        return path
    folder = config_folder()
    if (path := folder / f"{name.removesuffix('.py')}.py").is_file():
        return path
    names = sorted(document.stem for document in folder.glob("[!_]*.py"))
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; perhaps {near[0]}" if near else ""
    raise UserError(f"--config {name} is no file and no config; there are {', '.join(names)}{hint}")


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
