"""The words of a command line, before they are parsed: one option read, others put in place or left out."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tlc_jax.core.errors import UserError

_SECTION = re.compile(r"--(?=(?:data|model|budget|evaluation|optimizer|schedule|task|mesh)\.[a-z])")


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option that is needed before the others can be parsed."""
    values = [after for before, after in itertools.pairwise(arguments) if before == name]
    values += [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{name}=")]
    if len(values) > 1:
        raise UserError(f"{name} is given {len(values)} times, as {', '.join(values)}: give it once")
    return values[0] if values else None


@contextlib.contextmanager
def options_below(part: str) -> Iterator[None]:
    """Let messages name the options of a configuration that is a part of another's as the command line has
    them, as --train.data.dir and not --data.dir."""
    try:
        yield
    except UserError as error:
        error.args = (_SECTION.sub(f"--{part}.", str(error)),)
        raise


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


def positional_first(arguments: list[str], positional: Iterable[str]) -> list[str]:
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
