"""The clock and the budget, with a time that the test sets."""

from __future__ import annotations

import contextlib

import pytest

from tlc_jax.config import BudgetConfig
from tlc_jax.core.clock import Budget, Clock, Deadline, FirstStep
from tlc_jax.core.progress import duration


class Time:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_only_running_time_is_training() -> None:
    time = Time()
    clock = Clock(now=time)
    time.seconds += 5  # compiling
    with clock.running():
        time.seconds += 10
        with clock.paused():
            assert clock.training_seconds == 10
            time.seconds += 3
            assert clock.training_seconds == 10
        time.seconds += 7
        assert clock.training_seconds == 17
    time.seconds += 1
    assert clock.state() == {"training_seconds": 17, "total_seconds": 26}


def test_a_saved_clock_goes_on() -> None:
    time = Time()
    clock = Clock(training_seconds=17, total_seconds=26, now=time)
    time.seconds += 4
    with clock.running():
        time.seconds += 2
    assert clock.state() == {"training_seconds": 19, "total_seconds": 32}


def test_the_first_step_counts_as_long_as_the_second() -> None:
    time = Time()
    clock = Clock(training_seconds=100, now=time)
    first, found = FirstStep(clock), []
    with clock.running():
        for seconds in (9, 2, 3):
            assert first.pending() == (len(found) < 2)
            time.seconds += seconds
            if first.pending():
                first.ended()
            found.append(clock.training_seconds)
            with clock.paused():
                time.seconds += 50
    assert found == [100, 104, 107]
    assert clock.total_seconds == 9 + 2 + 3 + 150


def test_a_deadline_leaves_time_to_save() -> None:
    time = Time()
    deadline = Deadline(100, time.seconds, now=time)
    while not deadline.near(longest_save=0):
        time.seconds += 5
    assert time.seconds == 185, "a step of 5 s, and a tenth for a save that nobody has seen yet"
    time = Time()
    deadline = Deadline(100, time.seconds, now=time)
    time.seconds += 20  # an evaluation; another one still fits
    assert not deadline.near(longest_save=3)
    time.seconds += 54
    assert deadline.near(longest_save=3)
    assert not Deadline(None, 0, now=time).near(longest_save=1e9)


def test_time_is_counted_when_training_fails() -> None:
    time = Time()
    clock = Clock(now=time)
    with contextlib.suppress(KeyError), clock.running():
        time.seconds += 2
        raise KeyError
    assert clock.training_seconds == 2
    with clock.paused():
        time.seconds += 2
    time.seconds += 2
    assert clock.training_seconds == 2, "a clock that did not run is still paused afterwards"
    with clock.running(), pytest.raises(RuntimeError, match="already running"), clock.running():
        pass


@pytest.mark.parametrize(
    ("step", "seconds", "done"),
    [(0, 0, False), (9, 59.9, False), (10, 0, True), (3, 60, True), (11, 61, True)],
)
def test_the_first_limit_ends_the_run(step: int, seconds: float, done: bool) -> None:
    assert Budget(BudgetConfig(steps=10, training_seconds=60), "steps", 512).done(step, seconds) is done


def test_the_schedule_follows_the_budget_it_names() -> None:
    limits = BudgetConfig(steps=10, training_seconds=60)
    assert Budget(limits, "steps", 512).fraction(5, 15) == 0.5
    assert Budget(limits, "training_seconds", 512).fraction(5, 15) == 0.25
    assert Budget(limits, "training_seconds", 512).fraction(5, 75) == 1.0
    assert not Budget(BudgetConfig(steps=10), "steps", 512).done(9, 1e9)
    tokens = Budget(BudgetConfig(tokens=5120), "tokens", 512)
    assert [tokens.done(step, 1e9) for step in (9, 10)] == [False, True]
    assert tokens.fraction(5, 0) == tokens.used(5, 0) == 0.5
    assert Budget(limits, "steps", 512).used(5, 45) == 0.75


def test_durations() -> None:
    shown = [duration(s) for s in (4.4, 75, 3600, 3 * 3600 + 125, 90 * 3600)]
    assert shown == ["4 s", "1 min 15 s", "1 h 00 min", "3 h 02 min", "3 d 18 h"]
