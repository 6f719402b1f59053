"""The results of a study: one JSON object a line, each written once, each with its own checksum. Figures are
drawn from it only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, TextLog, writing
from tlc_jax.storage.untrusted import parse_json, read_bytes
from tlc_jax.studies.results import Result

_CHECKSUM = "sha256"
_LARGEST = 1 << 30  # bytes
_UNDO = "put back what the study wrote, or remove the line to have its result computed again"


class Results:
    """Results in the order in which they came."""

    def __init__(self, results: list[Result] | None = None):
        self.results: list[Result] = results or []

    def find(self, **wanted: Any) -> list[Result]:
        """Results whose fields have these values."""
        return [r for r in self.results if all(r.get(name) == value for name, value in wanted.items())]


class ResultStore(Results):
    """Results in a file, to which more are added; a line that a killed process left unfinished is dropped.

    UserError names the first line that is not what was written: no JSON, changed since (its SHA-256 is not
    its own), or refused by `check` with a ValueError.
    """

    def __init__(self, path: AnyPath, check: Callable[[Result], None] = lambda result: None):
        self.path, self._check, self._has_checksums = path, check, False
        content = read_bytes(path, _LARGEST) if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        super().__init__([self._read(number, line) for number, line in enumerate(lines, start=1)])
        self._log = TextLog(path, whole.decode("utf-8"))

    def add(self, result: Result) -> None:
        try:
            self._check(result)
            line = _line(result)
        except ValueError as error:
            raise UserError(
                f"a result cannot be written to {self.path} ({error}): where a number is not finite its run "
                "has diverged, so lower the learning rate in a new study"
            ) from error
        with writing(self.path):
            self._log.add(line)
            self._log.flush()
        self.results.append(result)

    def rewrite(self) -> None:
        """Writes all results again, with what was added to them."""
        self._log.close()
        self._log = TextLog(self.path, "".join(map(_line, self.results)))

    def where(self, result: Result) -> str:
        """The file and line of a result."""
        number = next(i for i, own in enumerate(self.results, start=1) if own is result)
        return f"{self.path} line {number}"

    def _read(self, number: int, line: bytes) -> Result:
        try:
            result = parse_json(line.decode("utf-8"))
            if not isinstance(result, dict):
                raise ValueError("it is no JSON object")
            self._check_sum(result.pop(_CHECKSUM, None), result)
            self._check(result)
        except ValueError as error:
            raise UserError(f"{self.path} line {number} cannot be used ({error}): {_UNDO}") from error
        return result

    def _check_sum(self, digest: Any, result: Result) -> None:
        """Earlier versions wrote none: then no line above has one."""
        if digest is None and self._has_checksums:
            raise ValueError(f"it has no {_CHECKSUM}, though lines above have one")
        if digest not in (None, _digest(result)):
            raise ValueError(f"it was changed: its {_CHECKSUM} is that of other values")
        self._has_checksums = digest is not None


def _line(result: Result) -> str:
    return json.dumps({**result, _CHECKSUM: _digest(result)}, allow_nan=False) + "\n"


def _digest(result: Result) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True, allow_nan=False).encode()).hexdigest()
