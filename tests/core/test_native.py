"""Native work stops when asked to, and the process ends as it should."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted
from tlc_jax.core.native import abandonable

# a minute of work without Python, a child that says when it begins
_LONG = """
import hashlib
from tlc_jax.core import entry_point
from tlc_jax.core.native import abandonable

def work():
    print("begun", flush=True)
    return hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000_000)

entry_point.run_command(lambda: abandonable(work))
"""


def test_results_and_errors_come_through() -> None:
    assert abandonable(lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        abandonable(lambda: 1 // 0)
    with pytest.raises(KeyboardInterrupt):  # as a panic of Rust, no Exception
        abandonable(lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_a_request_to_stop_is_obeyed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_requested", True)
    started = time.monotonic()
    with pytest.raises(Interrupted):
        abandonable(lambda: time.sleep(1))
    assert time.monotonic() - started < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_in_native_work_ends_with_its_code(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", _LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    started = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert time.monotonic() - started < 5
    assert b"run the same command again" in said
    assert b"Traceback" not in said
