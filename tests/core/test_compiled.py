"""Compiled programs are kept between starts."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tlc_jax.config import BudgetConfig, Config
from tlc_jax.core import compiled
from tlc_jax.core.errors import UserError
from tlc_jax.data import cache
from tlc_jax.storage.paths import parse_path

PROGRAM = """
from tlc_jax.core.entry_point import run_command

def main():
    import jax
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    hits = []
    jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
    jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
    print(sum(hits))

run_command(main)
"""


def start(home: Path) -> str:
    environment = {**os.environ, "HOME": str(home)}
    del environment[compiled.VARIABLE]  # that of the tests
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    assert start(tmp_path) == "0"
    assert start(tmp_path) == "1"
    assert list(tmp_path.glob(".cache/tlc_jax/compiled/*/*"))


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / ".cache").write_text("a file")
    assert start(tmp_path) == "0"
    assert start(tmp_path) == "0"


def test_the_users_own_folder_stands(monkeypatch) -> None:
    monkeypatch.setenv(compiled.VARIABLE, "mine")
    compiled.keep_compiled_programs()
    assert os.environ[compiled.VARIABLE] == "mine"


def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME is not set, and the user has no entry of his own: as in a container."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    homeless(monkeypatch)
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    compiled.keep_compiled_programs()
    assert compiled.VARIABLE not in os.environ


def test_without_a_home_paths_are_told_that_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    homeless(monkeypatch)
    config = Config(budget=BudgetConfig(steps=1))
    with pytest.raises(UserError, match=r"HOME is not set.*: set HOME, or give a --data.cache-dir that does"):
        cache.root(config.data.cache_dir)
    for text in ("~", "~/runs/x"):
        with pytest.raises(UserError, match=f"{text} is in the home folder, but there is none"):
            parse_path(text)
    assert parse_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert parse_path("runs/~") == Path("runs/~")


def test_the_home_folder_in_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_path("~/runs/x") == tmp_path / "runs/x"
