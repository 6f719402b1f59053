"""Lines of files that are text, and the names and lines of those that are not."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.data import lines
from tlc_jax.data.lines import read_lines


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_BLOCK", 3)


@given(text=st.text("a\u00e9\U0001f600\r\n\u2028\x0c\x85 ", max_size=30), block=st.integers(1, 8))
def test_lines_are_pythons(tmp_path_factory: pytest.TempPathFactory, text: str, block: int) -> None:
    """Whatever the blocks of reading: lines are those of `open`, but for CRs that double a line's end."""
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes(text.encode())
    whole, lines._BLOCK = lines._BLOCK, block
    try:
        only_lf, any_end = list(read_lines(path)), list(read_lines(path, any_end=True))
    finally:
        lines._BLOCK = whole
    expected = text.split("\n")
    if not expected[-1]:
        expected.pop()
    assert only_lf == [line.rstrip("\r") for line in expected]
    while "\r\r\n" in text:
        text = text.replace("\r\r\n", "\r\n")
    path.write_bytes(text.encode())
    with path.open(encoding="utf-8", newline=None) as file:
        assert any_end == [line.removesuffix("\n") for line in file]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbfone\ntwo", ["one", "two"]),
        (b"old\rmac\r", ["old", "mac"]),
        (b"dos\r\ntext\r\n", ["dos", "text"]),
        (b"twice\r\r\nconverted\r\r\n", ["twice", "converted"]),
        ("page\x0cbreak\u2028one line\x85still\n".encode(), ["page\x0cbreak\u2028one line\x85still"]),
        (b"", []),
        (b"\n\n", ["", ""]),
    ],
)
def test_ends_of_lines(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.txt.GZ").write_bytes(gzip.compress(content))
    assert list(read_lines(tmp_path / "a.txt", any_end=True)) == expected
    assert list(read_lines(tmp_path / "a.txt.GZ", any_end=True)) == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("hello\n".encode("utf-16"), "a.txt is in UTF-16 .*iconv"),
        ("hello\n".encode("utf-32"), "a.txt is in UTF-16 or UTF-32"),
        (b"one\ntwo\nthr\0ee\n", "a.txt line 3 holds a NUL byte"),
        ("one\ncaf\u00e9\n".encode("latin-1"), r"a.txt .* line 2 is not UTF-8 \(byte 0xe9\); .* iconv"),
        (b"cut off \xe6\x97", "line 1 is not UTF-8"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=says):
        list(read_lines(tmp_path / "a.txt"))


@pytest.mark.slow
def test_a_line_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """80 MB in 90 kB of gzip, and as they are."""
    packed = tmp_path / "a.txt.gz"
    with gzip.open(packed, "wb", 9) as file:
        file.write(b"one\n")
        for _ in range(80):
            file.write(b"ab" * (1 << 19))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a.txt.gz expands to more than 200 times its own size"):
        list(read_lines(packed))
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()
    (tmp_path / "b.txt").write_bytes(b"one\n" + b"ab" * (1 << 25) + b"c")
    with pytest.raises(UserError, match=r"b.txt line 2 is longer than 67,108,864 bytes"):
        list(read_lines(tmp_path / "b.txt"))


def test_a_bomb_of_zstd_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    with pyarrow.output_stream(str(path), compression="zstd") as file:
        for _ in range(200):
            file.write(b"\0" * (1 << 20))
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match="a.jsonl.zst"):
        list(read_lines(path))


def test_repeated_text_is_no_bomb(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"the cat sat on the mat\n" * 300_000))
    assert sum(1 for _ in read_lines(tmp_path / "a.txt.gz")) == 300_000


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    for path in (tmp_path / "a.txt", Path("/dev/zero")):
        with pytest.raises(UserError, match="not a regular file"):
            list(read_lines(path))


def test_a_signal_is_obeyed_where_no_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes(b"a" * (4 << 20))
    monkeypatch.setattr(stopping, "_requested", True)
    with pytest.raises(Interrupted):
        list(read_lines(tmp_path / "a.txt"))
