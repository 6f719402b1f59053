"""Which files of a folder are text: links once, nothing left out without a word."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.text.sources import open_source
from tlc_jax.data.text.text_files import find_text_files


def source(where: Path | str) -> TextSource:
    return open_source(DataConfig(dir=str(where)))


def names(where: Path) -> list[str]:
    return list(find_text_files(str(where)).files)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    return tmp_path / "data"


def test_a_linked_folder_is_read_and_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "b.txt").write_text("zebra", encoding="utf-8")
    (folder / "more").symlink_to("../elsewhere")
    result = source(folder)
    assert list(result.documents()) == ["one", "two", "zebra"]
    assert list(result.files) == ["a.txt", "more/deep/b.txt"]
    assert "through links to folders: more" in result.description
    assert result.origin["links"] == ["more"]


def test_circles_and_second_names_are_read_once(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "c.txt").write_text("three", encoding="utf-8")
    (folder / "inner" / "up").symlink_to("..")
    (folder / "loop").symlink_to(".")
    (folder / "twin").symlink_to("inner")
    (folder / "again.txt").symlink_to("inner/c.txt")
    os.link(folder / "a.txt", folder / "hard.txt")
    result = source(folder)
    assert list(result.documents()) == ["one", "two", "three"]
    assert set(result.origin["left_out"]["under another name of what is read"]["names"]) == {
        "hard.txt",
        "inner/c.txt",
        "inner/up/",
        "loop/",
        "twin/",
    }
    # as 2 ** 40 paths it would never end
    assert [path.name for path in find_text_files(str(folder / "**" / "*.txt")).files.values()] == [
        "a.txt",
        "again.txt",
    ]


def test_suffixes_in_capitals_and_packed_json_are_read(folder: Path) -> None:
    (folder / "B.TXT").write_text("upper", encoding="utf-8")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "packed"}\n'))
    (folder / "D.JSONL").write_bytes(b'{"text": "json"}\n')
    (folder / "E.Txt.Gz").write_bytes(gzip.compress(b"both\n"))
    assert list(source(folder).documents()) == ["upper", "json", "both", "one", "two", "packed"]


def test_what_is_left_out_is_counted_and_named(folder: Path) -> None:
    for name in ("notes.md", "b.csv", "c.xlsx", "d.txt.bz2", "e.txt~"):
        (folder / name).write_text("x", encoding="utf-8")
    for name in ("._a.txt", ".DS_Store", ".hidden/b.txt", ".ipynb_checkpoints/a.txt", "__MACOSX/a.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x", encoding="utf-8")
    (folder / ".#a.txt").symlink_to("me@machine.1")
    (folder / "empty.txt").touch()
    (folder / "gone").symlink_to("nowhere")
    result = source(folder)
    assert list(result.documents()) == ["one", "two"]
    counts = {why: each["count"] for why, each in result.origin["left_out"].items()}
    assert counts == {
        "hidden, as editors and systems leave them": 5,
        "of another kind": 5,
        "empty": 1,
        "linked to what is not there": 1,
    }
    assert "5 of another kind (b.csv, c.xlsx, d.txt.bz2 and 2 more)" in result.description
    assert "1 empty (empty.txt)" in result.description


def test_nothing_but_text_needs_no_word(folder: Path) -> None:
    assert source(folder).notes == ()
    assert source(folder).origin["left_out"] == {}


def test_text_that_cannot_be_had_is_refused_by_name(folder: Path) -> None:
    (folder / "b.txt").symlink_to("/nowhere/b.txt")
    with pytest.raises(UserError, match=r"b.txt is a link to /nowhere/b.txt, which does not exist"):
        source(folder)
    with pytest.raises(UserError, match=r"a link to /nowhere/b.txt, which does not exist"):
        source(folder / "b.txt")
    (folder / "b.txt").unlink()
    os.mkfifo(folder / "b.txt")
    for where in (folder, folder / "b.txt", folder / "*.txt"):
        with pytest.raises(UserError, match=r"b.txt is a pipe or a device"):
            source(where)
    with pytest.raises(UserError, match=r"data.dir is empty"):
        source("")


_WITHOUT_RIGHTS_OF_ROOT = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
_FIND = """
import sys
from tlc_jax.data.text.text_files import find_text_files
for where in sys.argv[1:]:
    try:
        print(len(find_text_files(where).files))
    except PermissionError as error:
        print(error.filename)
"""


def test_a_folder_that_may_not_be_read_is_no_empty_folder(folder: Path) -> None:
    (folder / "inner").mkdir()
    wheres = [str(folder / pattern) for pattern in ("", "**/*.txt", "*/*.txt", "inner/*.txt")]
    command = [sys.executable, "-c", _WITHOUT_RIGHTS_OF_ROOT, "-c", _FIND, *wheres]
    (folder / "inner").chmod(0)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (folder / "inner").chmod(0o700)
    assert done.stdout.split() == [str(folder / "inner")] * 4


def test_globs_are_those_of_the_shell(folder: Path) -> None:
    for name in ("b.txt", "sub/c.txt", "sub/deep/d.txt", ".e.txt", ".f/g.txt", "[h].txt"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(name, encoding="utf-8")
    expected = {
        "*.txt": ["[h].txt", "a.txt", "b.txt"],
        "?.txt": ["a.txt", "b.txt"],
        "**/*.txt": ["[h].txt", "a.txt", "b.txt", "c.txt", "d.txt"],
        "*/*.txt": ["c.txt"],
        "[ab].txt": ["a.txt", "b.txt"],
        ".*.txt": [".e.txt"],
        "sub/**": ["c.txt", "d.txt"],
        "[h].txt": ["[h].txt"],
    }
    assert {pattern: names(folder / pattern) for pattern in expected} == expected
    assert "1 a folder (sub/)" in source(folder / "*").description


def test_the_order_is_that_of_paths(folder: Path) -> None:
    for name in ("a/b.txt", "a.b/c.txt", "a-/d.txt", "b.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    assert names(folder) == [str(p.relative_to(folder)) for p in sorted(folder.rglob("*.txt"))]


def test_names_that_are_no_unicode(folder: Path, tmp_path: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("three", encoding="utf-8")
    assert len(list(source(folder).documents())) == 3
    assert source(folder).identity() == source(shutil.copytree(folder, tmp_path / "copy")).identity()
