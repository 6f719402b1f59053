"""Sources: every kind of file, and a clear refusal for everything else."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow
import pytest

from tests.builders import documents
from tlc_jax.config import DataConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.data import lines
from tlc_jax.data.text import documents as text_documents
from tlc_jax.data.text.sources import open_source


def read(**fields: str) -> list[str]:
    return list(open_source(DataConfig(**fields)).documents())


def test_folder_glob_and_single_file(corpus: Path) -> None:
    texts = documents(400)
    assert sorted(read(dir=str(corpus))) == sorted(texts)
    assert read(dir=str(corpus / "*.jsonl")) == texts[266:]
    assert read(dir=str(corpus / "two.txt.gz")) == texts[133:266]
    assert read(dir=str(corpus / "**" / "o*.txt")) == texts[:133]


def test_zst(tmp_path: Path) -> None:
    with pyarrow.output_stream(str(tmp_path / "a.txt.zst"), compression="zstd") as file:
        file.write("one\r\ntwo\n\n\n\nthree é".encode())
    assert read(dir=str(tmp_path)) == ["one\ntwo", "three é"]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_archive_is_refused(tmp_path: Path, suffix: str) -> None:
    """Python's and zstandard's own readers disagree here: zstandard gives a shorter text."""
    path = tmp_path / f"a.txt.{suffix}"
    text = "\n\n".join(documents(300)).encode()
    with pyarrow.output_stream(str(path), compression={"gz": "gzip", "zst": "zstd"}[suffix]) as file:
        file.write(text)
    whole = path.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=f"a.txt.{suffix} cannot be read"):
            read(dir=str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "a.jsonl line 2 .*'text'"),
        ("a.jsonl", b'{"text": "x"}\nnot json\n', "a.jsonl line 2"),
        ("a.jsonl", b'{"text": 3}\n', "'text' is not a string"),
        ("a.jsonl", b"[1]\n", "a.jsonl line 1"),
        ("a.txt", b"fine\n\xff\xfe\n", "a.txt cannot be read .*UTF-8"),
        ("a.pdf", b"", "none of .txt"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(dir=str(tmp_path / name))


def test_missing_places(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(dir=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no file of"):
        read(dir=str(tmp_path))
    with pytest.raises(UserError, match="no file of"):
        read(dir=str(tmp_path / "*.txt"))
    with pytest.raises(UserError, match=r"data\.dir is not set"):
        read()


def test_another_text_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": "hello"}) + "\n\n")
    assert read(dir=str(tmp_path), text_field="body") == ["hello"]


def test_identity_is_of_content(tmp_path: Path, corpus: Path) -> None:
    copy = shutil.copytree(corpus, tmp_path / "copy")

    def identity(folder: Path) -> str:
        return open_source(DataConfig(dir=str(folder))).identity()

    assert identity(corpus) == identity(copy)
    text = (copy / "one.txt").read_bytes()
    (copy / "one.txt").write_bytes(text[:-2] + b"!\n")
    assert identity(corpus) != identity(copy)


def test_docs_read_no_folder() -> None:
    with pytest.raises(ValueError, match=r"data\.dir .* data\.name is 'docs'"):
        DataConfig(name="docs", dir="somewhere")


def test_gzip_of_several_members(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n\n") + gzip.compress(b"two\n"))
    assert read(dir=str(tmp_path)) == ["one", "two"]


def test_text_of_one_json_line_may_be_a_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its paragraphs are bounded, not the book."""
    monkeypatch.setattr(lines, "LONGEST_TEXT", 100)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a page of words\n" * 50}), encoding="utf-8")
    assert len(read(dir=str(tmp_path))[0]) == 800
    with (tmp_path / "a.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"text": "short\n" + "x" * 101}))
    with pytest.raises(UserError, match=r"a.jsonl line 2 has 101 characters without a line break, 100 are"):
        read(dir=str(tmp_path))
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "b.txt").write_text("one\n\n" + "x" * 101, encoding="utf-8")
    with pytest.raises(UserError, match=r"b.txt line 3 has 101 characters without a line break"):
        read(dir=str(tmp_path))


def test_a_text_without_blank_lines_is_not_read_into_memory_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_documents, "LONGEST_DOCUMENT", 100)
    (tmp_path / "a.txt").write_text("one\n\n" + "ten chars.\n" * 20, encoding="utf-8")
    with pytest.raises(UserError, match=r"a.txt has no blank line in the 110 characters from line 3 on"):
        read(dir=str(tmp_path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 100_000, "a.jsonl line 1 is not a JSON object"),
        ('{"text": "half \\ud800"}', "not a string of Unicode"),
        ('{"text": ' + "1" * 5000 + "}", "a.jsonl line 1 is not a JSON object"),
    ],
)
def test_json_that_is_no_text(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        read(dir=str(tmp_path))


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    source = open_source(DataConfig(dir=str(tmp_path)))
    (tmp_path / "b.txt").unlink()
    with pytest.raises(FileNotFoundError, match="b.txt"):
        source.identity()
    with pytest.raises(UserError, match="b.txt cannot be read after line 0 .*No such file"):
        list(source.documents())


def test_identity_stops_when_asked_to(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(DataConfig(dir=str(corpus)))
    monkeypatch.setattr(stopping, "_requested", True)
    with pytest.raises(Interrupted):
        source.identity()
