"""Counts steps that were skipped because loss or gradient was not finite (`step.py`)."""

from __future__ import annotations

from tlc_jax.core.errors import NotFinite
from tlc_jax.tasks.base import Sums


class SkippedSteps:
    """Counts skipped steps in a row; too many end the run."""

    def __init__(self, limit: int):
        self._limit = limit
        self._row = 0

    def add(self, step: int, sums: Sums) -> None:
        """Look at the sums of the finished `step`, which waits for it. NotFinite after too many in a row."""
        self._row = self._row + 1 if float(sums["skipped_steps"]) else 0
        if self._row >= self._limit:
            raise NotFinite(
                f"loss or gradient was not finite in {self._row} steps in a row, from the batch of step "
                f"{step - self._row + 1:,} on",
                "lower optimizer.learning_rate or lengthen schedule.warmup, in a new --workdir, and begin it "
                "--init-from an earlier checkpoint if there is one",
            )

    @property
    def in_a_row(self) -> bool:
        """Whether the last step that was looked at was skipped: the state may not be worth saving."""
        return self._row > 0
