"""Workers of a study that end in other ways than by having done their part."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tlc_jax.core.errors import EXIT_INTERRUPTED, EXIT_USER
from tlc_jax.studies import study_workers


def worker(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program])


KILLED = f"import os; os.kill(os.getpid(), {signal.SIGKILL})"


@pytest.mark.parametrize(
    ("programs", "code"),
    [
        ((KILLED, "pass"), 0),
        ((KILLED, f"raise SystemExit({EXIT_USER})"), EXIT_USER),
        ((KILLED, KILLED), EXIT_INTERRUPTED),
    ],
)
def test_a_killed_worker_is_named_and_the_others_go_on(
    programs: tuple[str, ...], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert study_workers._wait([worker(program) for program in programs]) == code
    assert "worker 1 was killed (SIGKILL): another takes up its item" in capfd.readouterr().err
