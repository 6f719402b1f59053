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
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tyro
from tyro.extras import SubcommandApp

import tlc_jax
from tlc_jax.config.renamed import instead, renamed_option
from tlc_jax.core import command_line, invocation, mistakes, wrapped_help
from tlc_jax.core.completion import WRITE, write_completion
from tlc_jax.core.config_document import config_names, load_config
from tlc_jax.core.errors import UserError
from tlc_jax.core.options import Option, declared_fields, fields_of, options_of

try:
    from tyro._errors import on_parse_error  # in no public module
except ImportError:  # errors then have tyro's frames
    on_parse_error = contextlib.nullcontext

Command = TypeVar("Command")
Kind = TypeVar("Kind")
Settings = Annotated[Kind, tyro.conf.arg(name="")]
"""`Settings[Config]`: a field whose own fields are options without a prefix."""
_HIDDEN: Any = Annotated[object, tyro.conf.Suppress, tyro.conf.Fixed]
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

    Defaults are those of `settings`; without them, the fields of the document that `--config` names, or else
    the config's own. `name` is the command as it is typed; None: the name of the dataclass. `everyday` are
    the options that `--help` shows, in this order; none: all. Every flag has a negative, since a document may
    have set it.

    Ends the process with exit code 2 and one message if an option or a value is wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    kind = typing.get_type_hints(command)["settings"]
    for argument in (text for text in arguments if text.startswith("--")):
        if new := renamed_option(kind, old := argument.partition("=")[0]):
            raise UserError(f"{old} {instead(old.rpartition('.')[2], new)}")
    document = command_line.option(arguments, "--config")
    if document is not None and settings is None:
        settings = load_config(document, kind, workdir=command_line.option(arguments, "--workdir"))
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
    declared = {field.name: field.default for field in declared_fields(command, tyro.MISSING)}
    required = {name: default for name, default in declared.items() if default is tyro.MISSING}
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
        arguments = command_line.positional_first(arguments, positional)
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
                registry=_registry(functools.partial(_shown, names=short), bool(short)),
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
    purposes: Mapping[str, str] | None = None,
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
    app = functools.partial(_app(commands, purposes or {}).cli, prog=prog, description=text, config=_MARKERS)
    if name.replace("_", "-") == WRITE and len(arguments) == 3:
        write_completion(functools.partial(app, registry=_registry(_completed)), *arguments[1:])
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


def _registry(
    options: Callable[[tyro.constructors.StructTypeInfo], Sequence[Option] | None], summaries: bool = False
) -> tyro.constructors.ConstructorRegistry:
    """How tyro reads dataclasses: with these options (None leaves one to tyro), whose help is the docstring
    on one line, or its first sentence."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def rule(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        if (listed := options(info)) is None:
            return None
        fields = (
            tyro.constructors.StructFieldSpec(
                o.name, _HIDDEN if o.of_documents else o.kind, o.default, o.summary if summaries else o.help
            )
            for o in listed
        )
        kind = type(info.default) if dataclasses.is_dataclass(info.default) else info.type
        return tyro.constructors.StructConstructorSpec(kind, tuple(fields))

    return registry


def _shown(info: tyro.constructors.StructTypeInfo, names: Sequence[str]) -> list[Option] | None:
    """The fields of a dataclass with values; given `names`, these options alone, in this order."""
    if not dataclasses.is_dataclass(info.default):
        return None
    by_name = {option.name: option for option in (options_of if names else fields_of)(info.default)}
    return [by_name[name] for name in names or by_name if name in by_name]


def _completed(info: tyro.constructors.StructTypeInfo) -> list[Option] | None:
    """The fields of a dataclass for a shell, to which --config may be the name of any config document."""
    if not (dataclasses.is_dataclass(info.type) and info.type.__module__.startswith("tlc_jax.")):
        return None  # tyro has dataclasses too
    given = dataclasses.is_dataclass(info.default)
    fields = fields_of(info.default) if given else declared_fields(info.type, tyro.MISSING)
    names: Any = Literal[(*config_names(), None)]
    return [dataclasses.replace(field, kind=names) if field.name == "config" else field for field in fields]


def _positional(command: type) -> dict[str, str]:
    """The arguments of a command that have no name, and what help calls them."""
    names = dict[str, str]()
    for name, hint in typing.get_type_hints(command, include_extras=True).items():
        marks = getattr(hint, "__metadata__", ())
        if tyro.conf.Positional in marks:
            metavars = (getattr(mark, "metavar", None) for mark in marks)
            names[name] = next(filter(None, metavars), name.upper())
    return names
