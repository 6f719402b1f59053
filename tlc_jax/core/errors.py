"""How a program of ours ends: exit codes and the exceptions that stand for them."""

from __future__ import annotations

EXIT_FAILED = 1  # what was done could not be kept
EXIT_USER = 2  # the user's input is wrong
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: run the same command again to go on


class UserError(Exception):
    """The user's input is wrong. The message is one sentence: what, where, what to do."""


class SaveFailed(Exception):
    """A checkpoint could not be written; those before it are whole. The message says where and why."""


class Interrupted(Exception):
    """Stopped by a signal after saving; running the same command again continues."""


def one_line(error: BaseException | str, most: int = 300) -> str:
    """What somebody else's error says, as a part of a sentence of ours: such texts may tell a whole life."""
    return " ".join(str(error).split())[:most] or type(error).__name__
