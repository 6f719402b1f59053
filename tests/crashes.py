"""Crashes of test processes: one cause that is avoided, and the stack of any other at the end of the output.

XLA keeps some ten mappings of memory for each program of a CPU, and ends in a segmentation fault when the
process has as many as the kernel allows (vm.max_map_count, 65,530 by default): a suite compiles more."""

from __future__ import annotations

import atexit
import faulthandler
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

from tests import programs

_LIMIT, _MAPPED = Path("/proc/sys/vm/max_map_count"), Path("/proc/self/maps")
_LINES = 30  # of the crashed thread
_stream: pytest.StashKey = pytest.StashKey()


def mappings() -> int:
    """Mappings of memory that this process has; 0 where the system does not say."""
    return _MAPPED.read_bytes().count(b"\n") if _MAPPED.exists() else 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between two files: programs are forgotten before there are too many. One file makes a sixth at most."""
    if nextitem and nextitem.path != item.path and mappings() > int(_LIMIT.read_text(encoding="utf-8")) / 3:
        programs.forget()
        jax.clear_caches()


def pytest_configure(config: pytest.Config) -> None:
    if not _of_worker(config):
        os.environ["TLC_JAX_CRASHES"] = folder = tempfile.mkdtemp(prefix="tlc_jax_crashes_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    if _of_worker(session.config):  # pytest's faulthandler writes into the middle of the output
        path = Path(os.environ["TLC_JAX_CRASHES"], os.environ["PYTEST_XDIST_WORKER"])
        session.config.stash[_stream] = path.open("w", encoding="utf-8")
        faulthandler.enable(session.config.stash[_stream])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _of_worker(terminalreporter.config):
        return
    for path in sorted(Path(os.environ["TLC_JAX_CRASHES"]).iterdir()):
        if written := path.read_text(encoding="utf-8"):
            reason, _, _ = written.partition("\n")
            stack = written[max(written.find("Current thread"), 0) :].splitlines()[:_LINES]
            terminalreporter.section(f"crash of {path.name}")
            terminalreporter.write_line("\n".join((reason, *stack)))


def _of_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
