"""How a program of ours ends: exit codes and the exceptions that stand for them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

EXIT_FAILED = 1  # what was done could not be kept
EXIT_USER = 2  # the user's input is wrong
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: run the same command again to go on


class UserError(Exception):
    """The user's input is wrong. The message is one sentence: what, where, what to do."""


class SaveFailed(Exception):
    """A checkpoint could not be written; those before it are whole. The message says where and why."""


class Interrupted(Exception):
    """Stopped by a signal after saving; running the same command again continues."""


def run_door(main: Callable[[], None]) -> None:
    """Runs a command and ends the process with the exit code of how it went."""
    from tlc_jax.core import compiled, stopping

    compiled.keep_compiled_programs()
    stopping.listen()
    try:
        main()
    except (UserError, SaveFailed, Interrupted) as error:
        sys.exit(report(error))


def discard_output() -> None:
    """What is still to be written to standard output goes nowhere: nobody reads it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException | str, most: int = 300) -> str:
    """What somebody else's error says, as a part of a sentence of ours: such texts may tell a whole life."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def report(error: BaseException, who: str = "") -> int:
    """Tells on stderr how a command ended, and gives its exit code.

    2 the user's input is wrong, 75 interrupted and resumable, 1 the last checkpoint could not be saved; any
    other exception is a fault of ours: Python's traceback and exit code 1.
    """
    if isinstance(error, Interrupted):
        text, code = str(error), EXIT_INTERRUPTED
    elif isinstance(error, UserError | SaveFailed):
        text, code = f"error: {error}", EXIT_USER if isinstance(error, UserError) else EXIT_FAILED
    elif isinstance(error, SystemExit):
        text, code = f"exit {error.code}", error.code if isinstance(error.code, int) else EXIT_FAILED
    else:
        text, code = "".join(traceback.format_exception(error)), EXIT_FAILED
    print(f"{who}{text}", file=sys.stderr, flush=True)
    return code
