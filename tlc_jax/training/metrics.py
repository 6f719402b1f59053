"""Metrics: sums that stay on the device between two lines, and the file of lines that is the truth."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import numpy as np
from pydantic import Field

from tlc_jax.core.errors import SaveFailed, UserError, one_line
from tlc_jax.core.schema import Count, NotRequired, TypedDict, checked, record
from tlc_jax.parallel.hosts import leader
from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.untrusted import open_regular
from tlc_jax.tasks.base import Sums
from tlc_jax.training.metrics_log import MetricsLog

Seconds = Annotated[float, Field(ge=0)]
_LONGEST_LINE = 64 << 20  # bytes; a line tells the budget's fraction of each step since the last
_MEASURED = ("train/", "eval/")
_Numbers = dict[str, float]
GAUGES = ("gradient_norm",)  # the last value is reported, not a mean


class Meter:
    """Adds up the sums of steps on the device; `peek` brings them to the host."""

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

    def clear(self) -> None:
        """Starts again."""
        self._sums = {}


class MetricsWriter:
    """`metrics.jsonl`: one object a line with `step`, `training_seconds`, `total_seconds` and values.

    Opening it for a run restored at `step` drops the lines after that step, so that a resumed run
    leaves no gap and repeats nothing. A torn last line is dropped too. A branch begins with the lines of
    its trunk, the `source`. Of several processes the first writes.
    """

    def __init__(
        self,
        path: AnyPath,
        restored_step: int,
        warn: Callable[[str], None] = lambda text: None,
        source: AnyPath | None = None,
    ):
        self._path, self._warn, self._source = path, warn, source or path
        self._log: MetricsLog | None = None
        self.last: dict[str, Any] | None = leader.decide(lambda: self._open(restored_step))

    def _open(self, restored_step: int) -> dict[str, Any] | None:
        kept = [line for line in read_metrics(self._source) if line["step"] <= restored_step]
        self._log = MetricsLog(self._path, [json.dumps(line) + "\n" for line in kept], self._warn)
        return kept[-1] if kept else None

    def write(self, step: int, times: dict[str, float], values: dict[str, Any]) -> dict[str, Any]:
        """The line; where it cannot be written now `warn` is told, and it will be later."""
        line = {"step": step, **{name: round(seconds, 3) for name, seconds in times.items()}, **values}
        if self._log is not None:
            self._log.add(json.dumps(line) + "\n")
        self.last = line
        return line

    def flush(self) -> None:
        """What was written until now outlives this process and its machine. OSError if it does not."""
        if self._log is not None:
            self._log.flush()

    def settle(self) -> None:
        """The same at the end of a run: SaveFailed if it does not."""
        try:
            self.flush()
        except Exception as error:  # a bucket has errors of its own
            raise SaveFailed(f"{self._path} could not be written ({one_line(error)}): make room") from error

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def read_metrics(path: AnyPath) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line without its end (a killed process) is left out. UserError
    where it is no such file, whoever wrote it."""
    found = []
    for number, text in enumerate(_whole_lines(path), start=1):
        try:
            line = checked(json.loads(text.decode("utf-8")), _Line)
            checked({name: value for name, value in line.items() if name.startswith(_MEASURED)}, _Numbers)
            found.append(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path} line {number} is no line of metrics ({one_line(error, 100)}): correct or remove it"
            ) from error
    return found  # type: ignore[return-value]


def _whole_lines(path: AnyPath) -> Iterator[bytes]:
    if not path.exists():
        return
    with open_regular(path) as opened:
        file = io.BufferedReader(opened)  # type: ignore[arg-type]  # a store's own reads no bounded line
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
            yield line
        if len(line) == _LONGEST_LINE:
            raise UserError(
                f"{path} holds a line of more than {_LONGEST_LINE:,} bytes, so it is no file of metrics: "
                "remove it"
            )


@record
class _Line(TypedDict):
    """Further values have the names that the task gives them."""

    step: Count
    training_seconds: Seconds
    total_seconds: Seconds
    marks: NotRequired[list[str]]
