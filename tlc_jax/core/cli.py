"""Command lines: typed options, those of a config document among them, help, and errors that say what to do.

A command is a dataclass with its own options and, if it takes a config document, the fields `config: str`
(the document) and `settings: Settings[Config]` (its values). Neither numpy nor jax is imported here:
`--help` answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
import itertools
import shlex
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tyro
from tyro.extras import SubcommandApp

import tlc_jax
from tlc_jax.config.renamed import instead, renamed_option
from tlc_jax.core import invocation, mistakes, wrapped_help
from tlc_jax.core.completion import WRITE, write_completion
from tlc_jax.core.config_document import config_names, load_config
from tlc_jax.core.errors import UserError
from tlc_jax.core.options import declared_fields, fields_of, options_of

try:
    from tyro._errors import on_parse_error  # in no public module
except ImportError:  # errors then have tyro's frames
    on_parse_error = contextlib.nullcontext

Command = TypeVar("Command")
Kind = TypeVar("Kind")
Settings = Annotated[Kind, tyro.conf.arg(name="")]
"""`Settings[Config]`: a field whose own fields are options without a prefix."""
Positional = Annotated[Kind, tyro.conf.Positional]
"""`Positional[str]`: an argument without a name; the first of a command may be given by its name too."""
Model = Annotated[
    Kind,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="RUN",
        help_behavior_hint="",
        help="A run directory (its newest checkpoint), RUN@MARK (the checkpoint kept at a mark), RUN@lastN "
        "(the mean of its newest N checkpoints), or an artifact.",
    ),
]
"""`Model[str]`: what `load_model` takes, as an argument without a name."""
Models = Annotated[
    Kind,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="RUN",
        help_behavior_hint="",
        help="One or more run directories; `report errors` takes RUN@MARK, RUN@lastN and artifacts too.",
    ),
]
"""`Models[tuple[str, ...]]`: several of them."""
Commands = Mapping[str, "type | Commands"]
"""The dataclass of each of several commands, or commands in their turn."""
_MARKERS = (
    tyro.conf.AvoidSubcommands,
    tyro.conf.HelptextFromCommentsOff,  # help comes from docstrings; looking for comments too takes 30 ms
    tyro.conf.PositionalMetavarFromFieldName,
)
_HELP = {"-h", "--help", "--help-all"}
EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong input, 75 interrupted: run it again to resume."


def parse(
    command: type[Command],
    argv: Sequence[str] | None = None,
    name: str | None = None,
    settings: Any = None,
    everyday: Sequence[str] = (),
) -> Command:
    """Parse the command line of a command with a config document.

    Defaults are the fields of the document that `--config` names; without one, those of `settings`, or else
    the config's own. `name` is the command as it is typed; None: the name of the dataclass. `everyday` are
    the options that `--help` shows, in this order; none: all. Every flag has a negative, since a document may
    have set it.

    Ends the process with exit code 2 and one message if an option or a value is wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    kind = typing.get_type_hints(command)["settings"]
    for argument in arguments:
        if new := renamed_option(kind, old := argument.partition("=")[0]):
            raise UserError(f"{old} {instead(old.rpartition('.')[2], new)}")
    document = option(arguments, "--config")
    if document is not None:
        settings = load_config(document, kind, workdir=option(arguments, "--workdir"))
    return _parse(command, arguments, name, everyday, _MARKERS, settings=settings or kind())


def parse_plain(
    command: type[Command], argv: Sequence[str] | None = None, name: str | None = None
) -> Command:
    """Parse the command line of a command without a config document; `name` as in `parse`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _parse(command, arguments, name, (), (*_MARKERS, tyro.conf.FlagCreatePairsOff))


def _parse(
    command: type[Command],
    arguments: list[str],
    name: str | None,
    everyday: Sequence[str],
    markers: Sequence[Any],
    **values: Any,
) -> Command:
    if "--version" in arguments:
        _print_version()
    required = {field.name: tyro.MISSING for field in dataclasses.fields(command) if _required(field)}  # type: ignore[arg-type]
    default = command(**{**required, **values})
    options, positional = {option.name: option for option in options_of(default)}, _positional(command)
    prog = invocation.command(name or command.__name__.lower())
    description = inspect.cleandoc(command.__doc__ or "")
    shows_help = not _HELP.isdisjoint(arguments)
    short = everyday if shows_help and "--help-all" not in arguments else ()
    if shows_help:
        more = f"\n\n{prog} --help-all shows all options." if short else ""
        arguments, description = ["--help"], f"{description}{more}\n\n{EXIT_CODES}"
    else:
        arguments = _positional_first(arguments, positional)
        mistakes.check_names(arguments, options, positional, prog)

    def refuse(event: Any) -> NoReturn:
        raise UserError(mistakes.sentence(event, arguments, options, positional))

    try:
        with wrapped_help.output(wrapped=shows_help), on_parse_error(refuse):
            parsed = tyro.cli(
                command,
                args=arguments,
                default=default,
                prog=prog,
                description=description,
                config=markers,
                registry=_registry(short),
            )
    except ValueError as error:  # a check of the whole config
        raise UserError(str(error)) from error
    for field, shown in positional.items():
        if field in required and getattr(parsed, field) == ():
            raise UserError(f"{prog} needs {shown}; {prog} --help shows how")
    return parsed


def choose(
    prog: str,
    commands: Commands,
    arguments: Sequence[str],
    description: str,
    purposes: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The command that a command line begins with, one of several under one name.

    Shows them and ends the process if it begins with none, or with `--help`; `--version` and
    `--tyro-write-completion SHELL FILE`, by which a shell completes these commands and all their options, are
    answered too. UserError if there is no such command. `purposes` stand in place of docstrings.
    """
    name = arguments[0] if arguments else "--help"
    if name in commands:
        return name
    if name == "--version":
        _print_version()
    if not name.startswith("-"):
        near = "".join(f"; perhaps {near}" for near in difflib.get_close_matches(name, commands, n=1))
        raise UserError(f"{prog} has no command {name}; it has {', '.join(commands)}{near}")
    text = f"{description}\n\n{EXIT_CODES}"
    app = functools.partial(_app(commands, purposes).cli, prog=prog, description=text, config=_MARKERS)
    if name.replace("_", "-") == WRITE and len(arguments) == 3:
        write_completion(functools.partial(app, registry=_completed_registry()), *arguments[1:])
        sys.exit(0)
    if name not in _HELP:
        raise UserError(f"{prog} has no option {name}: {prog} --help shows its commands")
    with wrapped_help.output(wrapped=True):
        app(args=["--help"])
    sys.exit(0)  # never reached: tyro has answered


def _app(commands: Commands, purposes: Mapping[str, str]) -> SubcommandApp:
    app = SubcommandApp()
    for name, kind in commands.items():
        target: Any = _app(kind, {}) if isinstance(kind, Mapping) else kind
        app.command(target, name=name, help=purposes.get(name))
    return app


def _print_version() -> NoReturn:
    print(f"tlc_jax {tlc_jax.__version__}")
    sys.exit(0)


def _registry(names: Sequence[str]) -> tyro.constructors.ConstructorRegistry:
    """How tyro reads dataclasses: with docstrings as running text and, given `names`, these options alone, in
    this order, with the first sentence of each docstring."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def rule(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        if not dataclasses.is_dataclass(info.default):
            return None
        by_name = {option.name: option for option in (options_of if names else fields_of)(info.default)}
        fields = tuple(
            tyro.constructors.StructFieldSpec(
                option.name, option.kind, option.default, option.summary if names else option.help
            )
            for option in (by_name[name] for name in names or by_name if name in by_name)
        )
        return tyro.constructors.StructConstructorSpec(type(info.default), fields)

    return registry


def _positional(command: type) -> dict[str, str]:
    """The arguments of a command that have no name, and what help calls them."""
    names = dict[str, str]()
    for name, hint in typing.get_type_hints(command, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        if tyro.conf.Positional in marks:
            metavars = (getattr(mark, "metavar", None) for mark in marks)
            names[name] = next(filter(None, metavars), name.upper())
    return names


def _positional_first(arguments: list[str], positional: Iterable[str]) -> list[str]:
    """The arguments, of which the first one without a name may be given by its name (`--checkpoint RUN`, or
    `--run RUN RUN` where there may be several)."""
    flag = "--" + next(iter(positional), "").replace("_", "-")
    if flag == "--" or option(arguments, flag) is None:
        return arguments
    split = [word for given in arguments for word in _split(given, flag)]
    at = split.index(flag)
    rest = split[at + 1 :]
    end = next((i for i, argument in enumerate(rest) if argument.startswith("--")), len(rest))
    return [*rest[:end], *split[:at], *rest[end:]]


def _split(argument: str, flag: str) -> list[str]:
    """`--flag=value` as two words."""
    return argument.split("=", 1) if argument.startswith(f"{flag}=") else [argument]


def _completed_registry() -> tyro.constructors.ConstructorRegistry:
    """How tyro reads dataclasses for a shell: with docstrings on one line, and the names of config documents
    as what --config may be."""
    registry = tyro.constructors.ConstructorRegistry()
    names: Any = Literal[(*config_names(), None)]

    @registry.struct_rule
    def rule(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        if not (dataclasses.is_dataclass(info.type) and info.type.__module__.startswith("tlc_jax.")):
            return None  # tyro has dataclasses too
        given = dataclasses.is_dataclass(info.default)
        fields = fields_of(info.default) if given else declared_fields(info.type, tyro.MISSING)
        specs = tuple(
            tyro.constructors.StructFieldSpec(
                field.name, names if field.name == "config" else field.kind, field.default, field.help
            )
            for field in fields
        )
        return tyro.constructors.StructConstructorSpec(type(info.default) if given else info.type, specs)

    return registry


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
    """The command line with these options in place of those it has, to be pasted after the command. The value
    None stands for a flag."""
    added = (part for name, value in options.items() for part in (name, value) if part is not None)
    return shlex.join([*without(arguments, options), *added])


def without(arguments: Sequence[str], options: Mapping[str, str | None]) -> list[str]:
    """The command line without these options and their values; None stands for a flag."""
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
    return kept
