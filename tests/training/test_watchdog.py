"""A hung step is reported once, with the stacks of all threads; a step that is only slow is not."""

from __future__ import annotations

import time

import pytest

from tlc_jax.training.watchdog import Watchdog


def a_step_that_hangs(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.slow
def test_a_hung_step_is_reported_with_all_stacks(capfd: pytest.CaptureFixture) -> None:
    said: list[str] = []
    with Watchdog(0.5, said.append) as watchdog:
        watchdog.alive(7)
        a_step_that_hangs(2.0)
        assert len(said) == 1, "once for each hang"
        watchdog.alive(8)
    assert "no step has ended for" in said[0]
    assert "since step 7" in said[0]
    assert "a_step_that_hangs" in capfd.readouterr().err


def test_steps_that_end_are_left_alone(capfd: pytest.CaptureFixture) -> None:
    said: list[str] = []
    with Watchdog(2.0, said.append) as watchdog:
        for step in range(20):
            time.sleep(0.01)
            watchdog.alive(step)
    assert not said
    assert not capfd.readouterr().err
