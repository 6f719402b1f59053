"""Streams that nobody can hear any more: nothing is raised, and nothing goes where it should not."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from tlc_jax.core import output
from tlc_jax.core.errors import UserError
from tlc_jax.core.output import BestEffort


@pytest.fixture
def broken() -> Iterator[BestEffort]:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield BestEffort(stream)


def test_a_reader_that_left_is_no_error(broken: BestEffort) -> None:
    for _ in range(3):
        broken.write("x" * 100_000)
        broken.flush()
    assert broken.lost is not None
    assert broken.lost.errno == errno.EPIPE
    os.write(broken.fileno(), b"past Python's streams")


@pytest.mark.slow
def test_a_table_for_nobody_does_not_end_the_process(broken: BestEffort) -> None:
    """rich leaves with exit code 1 where a pipe is broken."""
    console = Console(file=cast(Any, broken))
    for _ in range(100):
        console.print("x" * 1000)
    assert broken.lost is not None, "it was written to nobody"


class Disk(io.RawIOBase):
    """Writes to memory; `full` says whether there is room."""

    def __init__(self) -> None:
        self.full, self.content = False, b""

    def writable(self) -> bool:
        return True

    def write(self, block) -> int:  # type: ignore[override]
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += bytes(block)
        return len(block)


def test_a_log_goes_on_when_its_disk_has_room_again() -> None:
    disk = Disk()
    stream = BestEffort(io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8", line_buffering=True))
    stream.write("before\n")
    disk.full = True
    for _ in range(100):
        stream.write("x" * 1000 + "\n")
    disk.full = False
    stream.write("after\n")
    stream.flush()
    assert disk.content.startswith(b"before\n")
    assert disk.content.endswith(b"after\n")
    assert stream.lost is not None


def test_a_stream_that_would_block_blocks() -> None:
    """A program that shares the pipe may have said otherwise: a slow reader is waited for."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(writer, "w", encoding="utf-8") as stream, os.fdopen(reader, "rb"):
        BestEffort(stream)
        assert os.get_blocking(writer)


@pytest.mark.parametrize(
    ("lost", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "could not be written (No space"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (OSError(errno.EBADF, "it is closed"), ""),
        (None, ""),
    ],
)
def test_what_is_missing_is_mentioned(
    lost: OSError | None, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = BestEffort(io.StringIO())
    stream.lost = lost
    monkeypatch.setattr(sys, "stdout", stream)
    output.mention_lost("it is elsewhere")
    said = capsys.readouterr().err
    assert says in said
    assert bool(said) == bool(says)
    if says:
        with pytest.raises(UserError, match="free some space"):
            output.check_delivered()


PROGRAM = """
import sys
from tlc_jax.core.entry_point import run_command

def main():
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # would be given the number of what is closed
        print("to the user")
        print("to the user", file=sys.stderr)
        file.write("mine")

run_command(main)
"""


@pytest.mark.parametrize(
    "closing", [">&-", "2>&-", ">&- 2>&- <&-", "> /dev/full", "2> /dev/full", "> /dev/full 2>&1"]
)
def test_streams_that_cannot_be_written(closing: str, tmp_path: Path) -> None:
    command = ["bash", "-c", f'exec "$@" {closing}', "_", sys.executable, "-c", PROGRAM, str(tmp_path / "x")]
    done = subprocess.run(
        command, check=False, capture_output=True, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x").read_text(encoding="utf-8") == "mine"
    assert b"Traceback" not in done.stderr
