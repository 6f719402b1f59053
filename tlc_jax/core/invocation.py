"""How this process was started, so that messages name a command as its user calls it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

_OPTION = re.compile(r"(?:--|\b(?=data\.))([a-z][a-z.-]*[a-z])( (?=['\"~/.\d]|\S*[/\\_]))?")
_COMMAND = re.compile(r"\b(?:tlc|python -m tlc_jax[. ]?\S*) ")


def command(name: str) -> str:
    """A command such as `compress` or `bench step-time`, to be pasted with its options after it.

    `tlc NAME` in a process that began as `tlc`, else `python -m tlc_jax.NAME`.
    """
    program = Path(sys.argv[0])
    if program.stem == "tlc":
        return f"tlc {name}"
    if program.parts[-2:] == ("tlc_jax", "__main__.py"):
        return f"python -m tlc_jax {name}"
    return f"python -m tlc_jax.{name}"


def as_arguments(message: str, names: Mapping[str, str]) -> str:
    """A message for a caller in Python, with the arguments that `names` has for options: `data_dir=tables/`
    for `--data.dir tables/`. What stands behind a command is left as it is."""
    end = match.start() if (match := _COMMAND.search(message)) else len(message)

    def argument(option: re.Match[str]) -> str:
        if (name := names.get(option[1])) is None:
            return option[0]
        return f"{name}=" if option[2] else name

    return _OPTION.sub(argument, message[:end]) + message[end:]
