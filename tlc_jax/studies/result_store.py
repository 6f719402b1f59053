"""The results of a study: one JSON object per line, each written once and with its own checksum. Figures and
sentences are drawn from results only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, write_text
from tlc_jax.storage.untrusted import parse_json, read_bytes
from tlc_jax.studies.results import Result

_CHECKSUM = "sha256"
_LARGEST = 1 << 30  # bytes
_REMEDY = "restore the line that the study wrote, or remove it to have its result computed again"


class Results:
    """Results in the order in which they were added."""

    def __init__(self, results: list[Result] | None = None):
        self.results: list[Result] = results or []

    def find(self, **fields: Any) -> list[Result]:
        """The results whose fields have these values."""
        return [r for r in self.results if all(r.get(name) == value for name, value in fields.items())]


class ResultStore(Results):
    """Results in a file, to which new ones are added; a last line that a killed process left unfinished is
    dropped.

    UserError names the first line that is not what was written: it is not JSON, it has been changed (its
    SHA-256 does not match), or `check` refuses it with a ValueError.
    """

    def __init__(self, path: AnyPath, check: Callable[[Result], None] = lambda result: None):
        self.path, self._check, self._has_checksums = path, check, False
        content = read_bytes(path, _LARGEST) if path.exists() else b""
        complete = content[: content.rfind(b"\n") + 1]
        lines = complete.split(b"\n")[:-1]
        super().__init__([self._read(number, line) for number, line in enumerate(lines, start=1)])
        self._write(complete.decode("utf-8"))

    def add(self, result: Result) -> None:
        try:
            self._check(result)
            line = _line(result)
        except ValueError as error:
            raise UserError(
                f"a result cannot be written to {self.path} ({error}): a number that is not finite means "
                "that the run has diverged, so lower the learning rate in a new study"
            ) from error
        self._write(self._text + line)
        self.results.append(result)

    def rewrite(self) -> None:
        """Write all results anew, with the fields that were added to them."""
        self._write("".join(map(_line, self.results)))

    def location(self, result: Result) -> str:
        """The file and line number of a result."""
        number = next(i for i, each in enumerate(self.results, start=1) if each is result)
        return f"{self.path} line {number}"

    def _write(self, text: str) -> None:
        """Replace the file atomically: it is small, and a bucket cannot append."""
        write_text(self.path, text)
        self._text = text

    def _read(self, number: int, line: bytes) -> Result:
        try:
            result = parse_json(line.decode("utf-8"))
            if not isinstance(result, dict):
                raise ValueError("it is not a JSON object")
            self._check_sum(result.pop(_CHECKSUM, None), result)
            self._check(result)
        except ValueError as error:
            raise UserError(f"{self.path} line {number} cannot be used ({error}): {_REMEDY}") from error
        return result

    def _check_sum(self, digest: Any, result: Result) -> None:
        """Results of versions without checksums have none, but never after a line that has one."""
        if digest is None and self._has_checksums:
            raise ValueError(f"it has no {_CHECKSUM}, although earlier lines have one")
        if digest not in (None, _digest(result)):
            raise ValueError(f"it was changed: its {_CHECKSUM} does not match its values")
        self._has_checksums = digest is not None


def _line(result: Result) -> str:
    return json.dumps({**result, _CHECKSUM: _digest(result)}, allow_nan=False) + "\n"


def _digest(result: Result) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True, allow_nan=False).encode()).hexdigest()
