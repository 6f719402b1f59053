"""Compiled programs are kept between starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tlc_jax.core import compiled

PROGRAM = """
from tlc_jax.core.errors import run_door

def main():
    import jax
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
    jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
    print(sum(hits))

run_door(main)
"""


def start(home: Path) -> str:
    environment = {**os.environ, "HOME": str(home)}
    del environment[compiled.VARIABLE]  # that of the tests
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    assert start(tmp_path) == "0"
    assert start(tmp_path) == "1"
    assert list(tmp_path.glob(".cache/tlc_jax/compiled/*/*"))


def test_a_home_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file")
    assert start(tmp_path) == "0"
    assert start(tmp_path) == "0"


def test_the_users_own_folder_stands(monkeypatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "mine")
    compiled.keep_compiled_programs()
    assert os.environ[compiled.VARIABLE] == "mine"
