"""Metrics: sums that stay on the device between two lines, and the file of lines that is the truth."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np

from tlc_jax.core.errors import UserError
from tlc_jax.core.place import Place, TextLog
from tlc_jax.parallel import hosts
from tlc_jax.tasks.base import Sums

GAUGES = ("gradient_norm",)  # the last value is reported, not a mean


class Meter:
    """Adds up the sums of steps on the device; `pop` brings them to the host and starts again."""

    def __init__(self, pending: dict[str, float] | None = None):
        # of the host until a step adds to them: an array of one device does not add to one of many processes
        self._sums: dict[str, Any] = {name: np.float32(value) for name, value in (pending or {}).items()}

    def add(self, sums: Sums) -> None:
        old = self._sums
        self._sums = {
            name: value if name in GAUGES or name not in old else old[name] + value
            for name, value in sums.items()
        }

    def peek(self) -> dict[str, float]:
        """The sums so far, on the host; a checkpoint keeps them so that no line changes by a restart."""
        return {name: float(value) for name, value in jax.device_get(self._sums).items()}

    def pop(self) -> dict[str, float]:
        sums, self._sums = self.peek(), {}
        return sums


class MetricsWriter:
    """`metrics.jsonl`: one object a line with `step`, `training_seconds`, `total_seconds` and values.

    Opening it for a run restored at `step` drops the lines after that step, so that a resumed run
    leaves no gap and repeats nothing. A torn last line is dropped too. Of several processes the first writes.
    """

    def __init__(self, path: Place, restored_step: int):
        self._path = path
        self._log: TextLog | None = None
        self.last: dict[str, Any] | None = hosts.first(lambda: self._open(restored_step))

    def _open(self, restored_step: int) -> dict[str, Any] | None:
        kept = [line for line in read_metrics(self._path) if line["step"] <= restored_step]
        self._log = TextLog(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        return kept[-1] if kept else None

    def write(self, step: int, times: dict[str, float], values: dict[str, Any]) -> dict[str, Any]:
        line = {"step": step, **{name: round(seconds, 3) for name, seconds in times.items()}, **values}
        if self._log is not None:
            self._log.add(json.dumps(line) + "\n")
        self.last = line
        return line

    def flush(self) -> None:
        """What was written until now outlives this process and its machine."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def read_metrics(path: Place) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line without its end (a killed process) is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    found = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            found.append({**line, "step": int(line["step"])})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} line {number} is no line of metrics: correct or remove it") from error
    return found
