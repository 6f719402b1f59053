"""How a program of ours ends: exit codes and the exceptions that stand for them."""

from __future__ import annotations

import sys
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
    """Runs a command and ends the process with the exit code of how it went.

    0 done, 2 the user's input is wrong, 75 interrupted and resumable, 1 the last checkpoint could not be
    saved; any other exception is a fault of ours and keeps Python's traceback and exit code 1.
    """
    from tlc_jax.core import compiled, stopping

    compiled.keep_compiled_programs()
    stopping.listen()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(EXIT_USER)
    except SaveFailed as failure:
        print(f"error: {failure}", file=sys.stderr, flush=True)
        sys.exit(EXIT_FAILED)
    except Interrupted as stop:
        print(stop, file=sys.stderr, flush=True)
        sys.exit(EXIT_INTERRUPTED)
