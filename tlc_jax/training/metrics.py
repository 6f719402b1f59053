"""Metrics: sums that stay on the device between two lines, and the file of lines."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from tlc_jax.training.trackers import Tracker, Trackers

Seconds = Annotated[float, Field(ge=0)]
_LONGEST_LINE = 64 << 20  # bytes; lines of older runs hold a number for each step since the last one
_MEASURED = ("train/", "eval/")
_Numbers = dict[str, float]
_LineOrNone = dict[str, Any] | None
GAUGES = ("gradient_norm",)  # the last value is reported, not a mean


class Meter:
    """Adds up the sums of steps on the device; `peek` brings them to the host."""

    def __init__(self, pending: dict[str, float] | None = None):
        # on the host until a step adds to them: arrays of one process and of many cannot be added
        self._sums: dict[str, Any] = {name: np.float32(value) for name, value in (pending or {}).items()}

    def add(self, sums: Sums) -> None:
        old = self._sums
        self._sums = {
            name: value if name in GAUGES or name not in old else old[name] + value
            for name, value in sums.items()
        }

    def peek(self) -> dict[str, float]:
        """The sums so far, on the host. A checkpoint keeps them, so that a restart changes no line."""
        return {name: float(value) for name, value in jax.device_get(self._sums).items()}

    def clear(self) -> None:
        """Start again at zero."""
        self._sums = {}


class MetricsWriter:
    """Writes `metrics.jsonl`: one JSON object a line, with step, training and total seconds, and values.

    Opening it for a run restored at a step drops the lines after that step, so that a resumed run leaves no
    gap and repeats nothing; a torn last line is dropped too. A branch begins with the lines of `source`, its
    trunk's file. `trackers` get every line too. Only process 0 writes.
    """

    def __init__(
        self,
        path: AnyPath,
        restored_step: int,
        warn: Callable[[str], None] = lambda text: None,
        source: AnyPath | None = None,
        trackers: Sequence[Tracker] = (),
    ):
        self._path, self._warn, self._source = path, warn, source or path
        self._trackers = Trackers(trackers, warn)
        self._log: MetricsLog | None = None
        self.last: _LineOrNone
        self.evaluation: _LineOrNone
        """The last line of all, and the last one of an evaluation."""
        self.names: frozenset[str]
        """What lines that are kept from before have values of."""
        self.last, self.evaluation, names = leader.decide(lambda: self._open(restored_step))
        self.names = frozenset(names)

    def _open(self, restored_step: int) -> tuple[_LineOrNone, _LineOrNone, list[str]]:
        kept = [line for line in read_metrics(self._source) if line["step"] <= restored_step]
        self._log = MetricsLog(self._path, [json.dumps(line) + "\n" for line in kept], self._warn)
        self._trackers.begin(self._path.parent, kept)
        last, evaluation = (next(reversed(x), None) for x in (kept, [*filter(_is_evaluation, kept)]))
        return last, evaluation, sorted({name for line in kept for name in line})

    def write(self, step: int, times: dict[str, float], values: dict[str, Any]) -> dict[str, Any]:
        """Returns the line. Where it cannot be written now, `warn` is called and it is written later."""
        line = {"step": step, **{name: round(seconds, 3) for name, seconds in times.items()}, **values}
        if self._log is not None:
            self._log.add(json.dumps(line) + "\n")
            self._trackers.add(line)
        self.last = line
        if _is_evaluation(line):
            self.evaluation = line
        return line

    def flush(self) -> None:
        """Bring what was written to stable storage; OSError where that fails."""
        if self._log is not None:
            self._log.flush()

    def settle(self) -> None:
        """The same at the end of a run; SaveFailed where that fails."""
        try:
            self.flush()
        except Exception as error:  # a bucket has errors of its own
            raise SaveFailed(f"{self._path} could not be written ({one_line(error)}): make room") from error

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._trackers.close()


def read_metrics(path: AnyPath) -> list[dict[str, Any]]:
    """The lines of a metrics file, without a last one that was not finished (by a killed process). UserError
    where it is not a metrics file."""
    lines = []
    for number, text in enumerate(_whole_lines(path), start=1):
        try:
            line = checked(json.loads(text.decode("utf-8")), _Line)
            checked({name: value for name, value in line.items() if name.startswith(_MEASURED)}, _Numbers)
            lines.append(line)
        except (ValueError, RecursionError) as error:
            why = one_line(error, 100)
            raise UserError(
                f"{path} line {number} is not a line of metrics ({why}): correct or remove it"
            ) from error
    return lines  # type: ignore[return-value]


def with_tokens(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines after an update; those of evaluations name no tokens, which follow from the line before."""
    tokens = 0.0
    for line in lines:
        if line["step"]:
            tokens = line["tokens"] / line["step"] if "tokens" in line else tokens
            yield {**line, **({"tokens": tokens * line["step"]} if tokens else {})}


def _is_evaluation(line: dict[str, Any]) -> bool:
    """Whether a line is of an evaluation, and not only of baselines."""
    return any(name.startswith("eval/") and name.endswith("/loss") for name in line)


def _whole_lines(path: AnyPath) -> Iterator[bytes]:
    if not path.exists():
        return
    with open_regular(path) as opened:
        file = io.BufferedReader(opened)  # type: ignore[arg-type]  # the file of a store has no bounded readline
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n"):
            yield line
        if len(line) == _LONGEST_LINE:
            raise UserError(
                f"{path} is not a metrics file: it has a line of more than {_LONGEST_LINE:,} bytes; remove it"
            )


@record
class _Line(TypedDict):
    """All other keys are named by the task."""

    step: Count
    training_seconds: Seconds
    total_seconds: Seconds
    marks: NotRequired[list[str]]
