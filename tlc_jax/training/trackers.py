"""Trackers: what receives the lines of metrics.jsonl while a run trains, besides that file.

A tracker never stops a run: one that fails gets no more lines, a warning says so, and training continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tlc_jax.core.errors import one_line
from tlc_jax.storage.paths import AnyPath

Line = dict[str, Any]
"""`step`, `training_seconds`, `total_seconds` and values by name: `train/loss`, `eval/<set>/<metric>`."""


class Tracker:
    """Receives the lines of one run after the other, in process 0 alone, while the clock of training is
    paused. Subclasses override what they need."""

    def begin(self, workdir: AnyPath, lines: Sequence[Line]) -> None:
        """A run begins or is resumed in `workdir`. `lines` are those that it has already; of a resumed run,
        lines after its checkpoint are left out, since `add` will get them again."""

    def add(self, line: Line) -> None:
        """A line was written."""

    def close(self) -> None:
        """No more lines follow from this process."""


class Trackers:
    """Passes lines on to trackers; `warn` is called once for each that fails."""

    def __init__(self, trackers: Sequence[Tracker], warn: Callable[[str], None]):
        self._active, self._warn = list(trackers), warn

    def begin(self, workdir: AnyPath, lines: Sequence[Line]) -> None:
        self._each(lambda tracker: tracker.begin(workdir, [dict(line) for line in lines]))

    def add(self, line: Line) -> None:
        self._each(lambda tracker: tracker.add(dict(line)))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self._active):
            try:
                action(tracker)
            except Exception as error:  # of another program, or of a network
                self._active.remove(tracker)
                self._warn(
                    f"{type(tracker).__name__} failed ({one_line(error)}): it gets no more lines, "
                    "metrics.jsonl has them all; training continues"
                )
