"""How a command begins and ends: signals, output, exit codes and one sentence for what went wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable

from tlc_jax.core import compiled, output, stopping
from tlc_jax.core.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USER,
    Interrupted,
    SaveFailed,
    UserError,
    one_line,
)
from tlc_jax.core.printable import printable

_TODO = {
    errno.EACCES: "change its permissions or name another",
    errno.EPERM: "change its permissions or name another",
    errno.EROFS: "name a folder that can be written",
    errno.ENOSPC: "make room or name another disk",
    errno.EDQUOT: "make room or name another disk",
    errno.ENOENT: "correct the name or put it there",
    errno.ENOTDIR: "correct the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another or remove it",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.ELOOP: "correct the links",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs' files",
}
_LONGEST_MESSAGE = 10_000


def run_command(main: Callable[[], None]) -> None:
    """Runs a command and ends the process with the exit code of how it went."""
    output.install()
    compiled.keep_compiled_programs()
    stopping.listen()
    try:
        main()
    except SystemExit:
        raise
    except BaseException as error:
        sys.exit(report(error))
    finally:
        sys.stdout.flush()


def explained(error: BaseException) -> str | None:
    """One sentence for an error that is not of our making but of the machine's: a file that cannot be read or
    written, memory that is not there. None for any other."""
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _TODO):
        where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        reason = error.strerror or one_line(error)
        todo = _TODO.get(error.errno or 0, "look at the path and the disk")
        return f"{where or 'a file'} cannot be read or written ({reason}): {todo}"
    if type(error).__name__ == "PanicException":  # of a library in Rust: tokenizers
        return f"the tokenizer cannot work with this text ({one_line(error, 160)}): put another in its place"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"there is not enough memory ({one_line(error, 160)}): ask for less at once (a smaller batch, "
            "beam or model), or take a machine with more"
        )
    return None


def report(error: BaseException, who: str = "") -> int:
    """Tells on stderr how a command ended, and gives its exit code.

    2 the user's input is wrong (or a file cannot be read or written), 75 interrupted and resumable, 1 the
    last checkpoint could not be saved; any other exception is a fault of ours: Python's traceback and exit
    code 1.
    """
    if isinstance(error, Interrupted):
        text, code = str(error), EXIT_INTERRUPTED
    elif isinstance(error, UserError | SaveFailed):
        text, code = f"error: {error}", EXIT_USER if isinstance(error, UserError) else EXIT_FAILED
    elif isinstance(error, SystemExit):
        text, code = f"exit {error.code}", error.code if isinstance(error.code, int) else EXIT_FAILED
    elif (sentence := explained(error)) is not None:
        text, code = f"error: {sentence}", EXIT_USER
    else:
        text, code = "".join(traceback.format_exception(error)), EXIT_FAILED
    shown = "\n".join(printable(line, _LONGEST_MESSAGE) for line in f"{who}{text}".split("\n"))
    with contextlib.suppress(OSError, AttributeError, ValueError):  # nobody may be there to hear it
        print(shown, file=sys.stderr, flush=True)
    return code
