"""How a command begins and ends: signals, output, exit codes, and one sentence for what went wrong."""

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
    is_out_of_memory,
    one_line,
)
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import printable

_REMEDIES = {
    errno.EACCES: "change its permissions or name another",
    errno.EPERM: "change its permissions or name another",
    errno.EROFS: "name a folder that can be written",
    errno.ENOSPC: "free some space or name another disk",
    errno.EDQUOT: "free some space or name another disk",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "correct the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another or remove it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "correct the links",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs' files",
}
_LONGEST_MESSAGE = 10_000


def run_command(main: Callable[[], None]) -> None:
    """Run a command and end the process with its exit code."""
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
    """One sentence for an error of the machine: a file that cannot be read or written, too little memory.
    None for any other error."""
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _REMEDIES):
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
        reason = error.strerror or one_line(error)
        remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk")
        return f"{path or 'a file'} cannot be read or written ({reason}): {remedy}"
    if (package := _not_imported(error)) is not None:
        return (
            f"{package} cannot be imported ({type(error).__name__}: {one_line(error, 160)}): "
            f"{command('doctor')} says what to install"
        )
    if type(error).__name__ == "PanicException":  # raised by tokenizers, a library in Rust
        return f"the tokenizer cannot process this text ({one_line(error, 160)}): use another tokenizer"
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return (
            f"there is not enough memory ({one_line(error, 160)}): use a smaller batch, beam or model, or a "
            "machine with more memory"
        )
    return None


def _not_imported(error: BaseException) -> str | None:
    """The package of others that is missing, or whose import fails; None for any other error."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return None if package == "tlc_jax" else package
    if not isinstance(error, Exception) or isinstance(error, MemoryError):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in ("tlc_jax", "__main__", ""):
            return package
    return None


def report(error: BaseException, prefix: str = "") -> int:
    """Print on stderr how a command failed, and return its exit code.

    2: the input is wrong, or a file cannot be read or written. 75: interrupted, can be resumed. 1: the last
    checkpoint could not be saved, or a bug, with Python's traceback.
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
    shown = "\n".join(printable(line, _LONGEST_MESSAGE) for line in f"{prefix}{text}".split("\n"))
    with contextlib.suppress(OSError, AttributeError, ValueError):  # stderr may be closed
        print(shown, file=sys.stderr, flush=True)
    return code
