"""Exit codes of commands, and the exceptions that lead to them."""

from __future__ import annotations

EXIT_FAILED = 1  # what was computed could not be saved, or a bug
EXIT_USER = 2  # the user's input is wrong
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: run the same command again to resume


class UserError(Exception):
    """The user's input is wrong. The message is one sentence: what, where, what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython and notebooks show in place of a traceback: the sentence."""
        return [f"{type(self).__name__}: {self}"]


class NotFinite(UserError):
    """A number is not finite: what was trained has diverged. `reason` is the message without what to do."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason


class SaveFailed(Exception):
    """A checkpoint could not be written; earlier ones are intact. The message says where and why."""


class Interrupted(Exception):
    """Stopped by a signal after saving; running the same command again resumes."""


def one_line(error: BaseException | str, most: int = 300) -> str:
    """The message of a library's error on one line of at most `most` characters, to be part of a sentence."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA raised it for a program that needs more memory than its device has."""
    return "RESOURCE_EXHAUSTED" in str(error)
