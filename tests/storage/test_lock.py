"""The lock of a run directory on bad days: file systems without locks, strangers' files, folders that go."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
from pathlib import Path

import pytest

from tlc_jax.core.errors import SaveFailed, UserError
from tlc_jax.storage import file_lock, lock
from tlc_jax.storage.lock import locked
from tlc_jax.storage.run_directory import LOCK


def held_elsewhere(folder: Path, words: bytes) -> int:
    """Another process's lock (they are of descriptors, so one's own other one will do), with its words."""
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)  # as versions before filelock took it: old and new exclude each other
    os.write(file, words)
    return file


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError) as told, locked(tmp_path):
        pass
    assert f"the file system of {tmp_path} cannot lock files ({os.strerror(number)})" in str(told.value)
    assert "in use" not in str(told.value)
    assert "--workdir on a local disk" in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK], "no other kind of lock, which a kill leaves"


def test_what_a_stranger_wrote_there_is_shown_in_bounds(tmp_path: Path) -> None:
    file = held_elsewhere(tmp_path, b"\x1b[2J" + b"\xff" + b"x" * 5000)
    with pytest.raises(UserError, match="is in use by") as told, locked(tmp_path):
        pass
    os.close(file)
    assert len(str(told.value)) < 500
    assert "\x1b" not in str(told.value)


def test_a_lock_is_no_way_to_another_file(tmp_path: Path) -> None:
    """As it may lie in a folder that somebody sent."""
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (tmp_path / LOCK).symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"), locked(tmp_path):
        pass
    assert secret.read_text() == "mine"
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(UserError, match="lock is not a regular file: remove it"), locked(tmp_path):
        pass


def test_a_full_disk_does_not_keep_from_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_lock.os, "write", full)
    with locked(tmp_path) as check:
        check()


def test_a_folder_that_was_taken_away(tmp_path: Path) -> None:
    for number, hand in enumerate(
        (
            lambda folder: folder.rename(tmp_path / "moved"),
            lambda folder: [folder.rename(tmp_path / "old"), folder.mkdir()],
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with locked(folder) as check:
            check()
            hand(folder)
            with pytest.raises(SaveFailed, match=rf"{folder} was removed or replaced .* new --workdir"):
                check()


def test_a_lock_that_was_removed_is_taken_again_unless_somebody_has_it(tmp_path: Path) -> None:
    with locked(tmp_path) as check:
        (tmp_path / LOCK).unlink()
        check()
        with pytest.raises(UserError, match=f"in use by process {os.getpid()} on "), locked(tmp_path):
            pass
        (tmp_path / LOCK).unlink()
        other = held_elsewhere(tmp_path, b"process 7 on mars")
        with pytest.raises(
            SaveFailed, match=r"lock was removed and cannot be taken again .*process 7 on mars"
        ):
            check()
        os.close(other)


# --- leases, as they lie in a bucket -------------------------------------------------------------------


class Object:
    """A lease, without its bucket."""

    def __init__(self, text: str):
        self.text = text

    def open(self, mode: str) -> object:
        return io.BytesIO(self.text.encode())

    def __str__(self) -> str:
        return "gs://b/run/lock"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "[" * 5000,
        "{}",
        json.dumps({"holder": 3, "until": "2026-01-01"}),
        json.dumps({"holder": "process 1 on x", "until": "tomorrow"}),
        json.dumps({"holder": "x" * 5000, "until": "2026-01-01"}),
        "x" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_lease_is_told_as_that(text: str) -> None:
    with pytest.raises((UserError, OSError), match="is no lease of a run .* remove it if|larger than the"):
        lock._read(Object(text))  # type: ignore[arg-type]


def test_only_a_process_of_the_same_system_can_be_known_to_be_dead() -> None:
    """Numbers of processes are equal in two containers of one machine."""
    dead = 2**22 + 1  # above what a system gives
    ours = {"holder": f"process {dead} on here since now", "until": "2026-01-01", "machine": lock._machine()}
    assert lock._is_dead(lock._read(Object(json.dumps(ours))))  # type: ignore[arg-type]
    for change in ({"machine": "another"}, {"holder": "somebody"}, {"holder": f"process {os.getpid()} on x"}):
        assert not lock._is_dead(lock._read(Object(json.dumps({**ours, **change}))))  # type: ignore[arg-type]
    del ours["machine"]
    assert not lock._is_dead(lock._read(Object(json.dumps(ours))))  # type: ignore[arg-type]
