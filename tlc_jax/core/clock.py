"""Time as a value: a pausable clock that is saved with the run, and the budget that it is compared with.

Training seconds exclude compilation, evaluation and saving. Total seconds are the wall-clock time of all
processes that worked on the run one after the other, without the time between them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tlc_jax.config import BudgetConfig, BudgetMeasure


class Clock:
    """Counts training seconds while it runs and total seconds always.

    Invariant: `total_seconds - training_seconds` is the paused time, but for what `credit` adds. A new clock
    is paused.
    """

    def __init__(
        self,
        *,
        training_seconds: float = 0.0,
        total_seconds: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ):
        self._now = now
        self._training = training_seconds
        self._running_since: float | None = None
        self._origin = now() - total_seconds

    @property
    def training_seconds(self) -> float:
        running = 0.0 if self._running_since is None else self._now() - self._running_since
        return self._training + running

    @property
    def total_seconds(self) -> float:
        return self._now() - self._origin

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Training time passes inside. Wait for the device before leaving."""
        if self._running_since is not None:
            raise RuntimeError("the clock is already running")
        self._running_since = self._now()
        try:
            yield
        finally:
            self._training, self._running_since = self.training_seconds, None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No training time passes inside, whether the clock runs outside or not. Wait for the device before
        entering."""
        was_running = self._running_since is not None
        self._training, self._running_since = self.training_seconds, None
        try:
            yield
        finally:
            self._running_since = self._now() if was_running else None

    def credit(self, seconds: float) -> None:
        """Add seconds of training, or subtract them."""
        self._training += seconds

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps: the keyword arguments that restore this clock."""
        return {"training_seconds": self.training_seconds, "total_seconds": self.total_seconds}


class Deadline:
    """When this process will be killed: by then it must have saved.

    It reserves the longest time between two calls of `near` (a step, or an evaluation) and twice the longest
    save so far; before the first save, a tenth of the whole time.
    """

    def __init__(self, seconds: float | None, started: float, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._end = math.inf if seconds is None else started + seconds
        self._unknown_save = 0.0 if seconds is None else seconds / 10
        self._longest, self._last = 0.0, now()

    def near(self, longest_save: float) -> bool:
        """Whether it is time to save and stop. `longest_save` in seconds; 0: none is known yet."""
        now = self._now()
        self._longest, self._last = max(self._longest, now - self._last), now
        return now + self._longest + (2 * longest_save or self._unknown_save) >= self._end


class FirstStep:
    """Counts the first step of a process, which is slow (cold caches, untouched memory), as long as the
    second one; until that has ended it counts nothing."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._laps = [clock.training_seconds]

    def pending(self) -> bool:
        """Whether the next step must be waited for, and `ended` called after it."""
        return len(self._laps) < 3

    def ended(self) -> None:
        """The first or the second step has ended on the device."""
        spent = self._clock.training_seconds - self._laps[-1]
        self._clock.credit(-spent if len(self._laps) == 1 else spent)
        self._laps.append(self._clock.training_seconds)


@dataclass(frozen=True)
class Budget:
    """When a run ends: after `steps`, `training_seconds` or `tokens`, whichever is reached first; and at the
    share `ends_at` of the measure that the schedule follows."""

    limit: BudgetConfig
    follows: BudgetMeasure
    tokens_per_step: float
    ends_at: float = 1.0

    def done(self, step: int, training_seconds: float) -> bool:
        """Whether the budget is used after `step` steps in `training_seconds`."""
        fractions = self._fractions(step, training_seconds)
        return max(fractions.values()) >= 1.0 or fractions[self.follows] >= self.ends_at

    def fraction(self, step: int, training_seconds: float) -> float:
        """The used fraction of the measure that the schedule follows, in [0, 1]."""
        return min(1.0, self._fractions(step, training_seconds)[self.follows])

    def used(self, step: int, training_seconds: float) -> float:
        """The used fraction of the limit that will be reached first, in [0, 1]."""
        fractions = self._fractions(step, training_seconds)
        fractions[self.follows] /= self.ends_at
        return min(1.0, max(fractions.values()))

    def _fractions(self, step: int, training_seconds: float) -> dict[str, float]:
        used = {
            "steps": step,
            "training_seconds": training_seconds,
            "tokens": step * self.tokens_per_step,
        }
        return {name: used[name] / limit for name, limit in vars(self.limit).items() if limit is not None}
