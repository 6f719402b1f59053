"""One process writes a folder: a claim before the work, names that cannot collide, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tlc_jax.core.errors import UserError
from tlc_jax.storage import paths
from tlc_jax.storage.claim import claimed
from tlc_jax.storage.paths import new_folder, remove_leftovers, write_text

HOLD = """
import sys, time
from pathlib import Path
from tlc_jax.storage.claim import claimed
from tlc_jax.storage.paths import new_folder
with claimed(Path(sys.argv[1])), new_folder(Path(sys.argv[1]), exclusive=True) as making:
    print("held", flush=True)
    sys.stdin.readline()
    (making / "one").write_text("x", encoding="utf-8")
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds the claim on `out`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_who_comes_second_is_told_and_the_first_one_writes(tmp_path: Path, other: subprocess.Popen) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="is being written by another process"), claimed(out):
        pytest.fail("two may write")
    other.communicate("go on\n")
    assert other.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["one"]
    with pytest.raises(UserError, match="is not empty"), claimed(out):
        pytest.fail("what is there is written over")


def test_a_claim_goes_with_its_process_and_so_does_what_it_left(
    tmp_path: Path, other: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_MOMENT", -1.0)
    out = tmp_path / "out"
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "who is at work is left alone"
    other.kill()
    other.wait()
    with claimed(out), new_folder(out, exclusive=True) as making:
        assert len(list(tmp_path.iterdir())) == 2, "the dead one's folder is gone"
        (making / "two").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_claim_without_work_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claimed(tmp_path / "a" / "out"):
        raise KeyError
    assert not (tmp_path / "a" / "out").exists()


def test_of_two_writers_of_one_folder_the_later_is_told_unless_it_is_a_cache(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(name: str, **how: bool) -> None:
        with new_folder(out, **how) as making:
            (making / name).touch()

    with new_folder(out, exclusive=True) as first:
        (first / "first").touch()
        with new_folder(out) as second:
            assert second != first, "process numbers are equal in two containers"
    write("third")
    with pytest.raises(UserError, match="made by another process meanwhile"):
        write("fourth", exclusive=True)
    assert [path.name for path in out.iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leftovers_are_what_we_call_so_and_old(tmp_path: Path) -> None:
    old = time.time() - 3600
    kept = ["a.json.tmp", "b.json.0123456789.tmp", "c.0123456789AB.tmp", "a.json"]
    for name in (*kept, "a.json.0123456789ab.tmp", "b.0123456789ab.tmp", "a.json.ba9876543210.tmp"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    os.utime(tmp_path / "a.json.ba9876543210.tmp")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.json.ba9876543210.tmp"}


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    monkeypatch.setattr(
        Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_file_in_the_place_of_an_output_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "reviews.tsv").touch()
    claim = claimed(tmp_path / "reviews.tsv")
    with pytest.raises(UserError, match=r"--out .*reviews.tsv is a file: give a new folder"), claim:
        pass
