"""What is wrong with a command line, in one sentence with what may be meant."""

from __future__ import annotations

import contextlib
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Union

from tlc_jax.core.config_document import config_names
from tlc_jax.core.errors import UserError
from tlc_jax.core.options import Option, meant_by

_RUN = ("checkpoint", "one", "run", "artifact")
_STEPS = ("budget.steps", "budget.training_seconds")
_MEANT = {
    "run": (*_RUN, "workdir"),
    "workdir": (*_RUN, "out"),
    "model": (*_RUN, "init_from"),
    "checkpoint": (*_RUN, "init_from"),
    "resume": (*_RUN, "workdir"),
    "output": ("out", "predictions", "workdir"),
    "output_dir": ("out", "workdir"),
    "out": ("output", "predictions", "workdir"),
    "input": ("data.dir",),
    "data": ("data.dir", "data.name"),
    "dataset": ("data.name", "data.dir"),
    "task_name": ("data.name",),
    "batch": ("batch_size",),
    "layers": ("model.num_layers",),
    "depth": ("model.num_layers",),
    "width": ("model.hidden_size",),
    "hidden": ("model.hidden_size",),
    "beam": ("beams",),
    "bit": ("bits",),
    "device": ("mesh.data",),
    "gpus": ("mesh.data",),
    **dict.fromkeys(("epochs", "epoch", "num_epochs", "num_train_epochs"), _STEPS),
    **dict.fromkeys(("iterations", "num_steps", "max_steps", "updates", "time"), _STEPS),
}
"""What people type, and the options of some command that may be meant."""
_MOST = 3  # options that are suggested
_UNIONS = (Union, types.UnionType)


def check_names(
    arguments: Sequence[str], options: Mapping[str, Option], positional: Mapping[str, str], prog: str
) -> None:
    """UserError for an option that does not exist, with those that may be meant. `positional` are the
    arguments without names, as help calls them."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        given = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or given == "" or given.startswith("tyro_"):
            continue
        if re.sub(r"(^|\.)no_", r"\1", given) in options.keys() - positional.keys() or given in options:
            continue
        meant = [name for name in _MEANT.get(given, ()) if name in options] or meant_by(given, options)
        meant = meant or difflib.get_close_matches(given, options, n=_MOST, cutoff=0.75)
        known = " or ".join(
            f"{positional[name]}, which is given without a name" if name in positional else _flag(name)
            for name in meant[:_MOST]
        )
        raise UserError(
            f"there is no option {flag}: " + (f"perhaps {known}" if known else f"{prog} --help-all shows all")
        )


def sentence(
    event: Any, arguments: Sequence[str], options: Mapping[str, Option], positional: Mapping[str, str]
) -> str:
    """What tyro would show in a box about one of its events, such as a value of another type."""
    match type(event).__name__:
        case "MissingArgs":
            names = [_shown(missing.arg, positional) for missing in event.missing_arguments]
            rest = _superfluous(event.unrecognized_tokens, options, positional)
            return f"{event.prog} needs {' and '.join(names)}; {rest or f'{event.prog} --help shows how'}"
        case "UnrecognizedArgs":
            return f"{event.prog}: {_superfluous(event.tokens, options, positional)}"
        case "BadValue":
            return f"{_shown(event.argument, positional)} needs a value"
        case "InvalidChoice":
            name, choices = _shown(event.argument, positional), _either(event.choices)
            return f"{name} takes {choices}, not {event.value!r}"
        case "InstantiationFailure" if event.argument is not None:
            return _wrong_value(_shown(event.argument, positional), arguments, options, event.message)
        case _:
            return str(getattr(event, "message", "")) or f"{event.prog} cannot read these options"


def _superfluous(tokens: Sequence[str], options: Mapping[str, Option], positional: Mapping[str, str]) -> str:
    if not tokens:
        return ""
    first = tokens[0]
    if "config" in options and first in config_names():
        return f"perhaps --config {first} in place of {first}"
    if first.startswith("--"):
        return f"there is no option {first}"
    taken = f"takes only {' and '.join(positional.values())}" if positional else "takes options only"
    return f"{first!r} has no option before it, and the command {taken} (--help shows them)"


def _wrong_value(name: str, arguments: Sequence[str], options: Mapping[str, Option], message: str) -> str:
    """Why the value of an option is not one that it may have."""
    option = options.get(name.removeprefix("--").replace("-", "_"))
    values = _values(arguments, name)
    if option is None or not values:
        return f"{name}: {' '.join(message.split())}"
    number = _number_meant(values[0], whole="whole" in _wanted(option.kind))
    hint = f": write {number}" if len(values) == 1 and number else ""
    return f"{name} takes {_wanted(option.kind)}, not {' '.join(values)}{hint}"


def _values(arguments: Sequence[str], name: str) -> list[str]:
    """What follows an option, up to the next one."""
    values = list[str]()
    for at, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag.replace("_", "-") == name.replace("_", "-"):
            rest = arguments[at + 1 :]
            end = next((i for i, other in enumerate(rest) if other.startswith("--")), len(rest))
            values = [value] if equals else list(rest[:end])
    return values


def _number_meant(text: str, whole: bool) -> str:
    """The number in Python's spelling that 60% or 1e3 stands for; '' where that is unclear."""
    with contextlib.suppress(ValueError, OverflowError):
        number = float(text.removesuffix("%").replace(",", "")) / (100 if text.endswith("%") else 1)
        return f"{number:g}" if not whole else str(int(number)) if number == int(number) else ""
    return ""


def _wanted(kind: Any) -> str:
    """The values of a type, in words: `a whole number or None`."""
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if hasattr(kind, "__metadata__"):
        return _wanted(members[0])
    if origin in _UNIONS:
        return _either(sorted((_wanted(member) for member in members), key="None".__eq__))
    if origin is Literal:
        return _either(members)
    if origin is tuple:
        return _wanted(members[0]).removeprefix("a ") + "s"
    words = {int: "a whole number", float: "a number", type(None): "None", bool: "True or False"}
    return words.get(kind, "text")


def _either(names: Iterable[Any]) -> str:
    *first, last = map(str, names)
    return f"{', '.join(first)} or {last}" if first else last


def _shown(argument: Any, positional: Mapping[str, str]) -> str:
    """An argument of tyro, as help calls it."""
    name = str(argument.display_name())
    return positional.get(name.replace("-", "_"), name)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
