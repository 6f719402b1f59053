"""Mistakes in what `prepare` is given: the sentence, and the next command, are what mends them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.data.published_archives import run, zipped
from tlc_jax.core.errors import UserError


def table(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


GOOD = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
# rows of train.csv, or of the table whose name stands before them; columns; the note, if there is one; the
# command after `next:`
TABLES = [
    (["text,label", *GOOD], [], "", "train"),
    (
        ["text,label", *GOOD, "odd,", "odder,"],
        [],
        "train: 2 rows are left out: 2 for no label, unlike",
        "train",
    ),
    (
        ["review,stars", *GOOD],
        ["text=review"],
        "no row has a label; the columns that are not used are stars",
        "",
    ),
    (["text", "one", "two"], [], "no row has a label: these data can only be predicted", "evaluate"),
    (
        ["text,label", *(f"text {i},a" for i in range(40))],
        [],
        "train would refuse these data: .* has 1 label",
        "",
    ),
    (
        ["text,label", *(f"text {i},0.{i}1" for i in range(90))],
        [],
        "would refuse these .* different labels",
        "",
    ),
    (["test", "text,label", *GOOD], [], "there is no set train to train on, only test", "evaluate"),
]


@pytest.mark.parametrize(("rows", "columns", "says", "following"), TABLES)
def test_labelled_tables_are_as_good_as_train_finds_them(
    rows: list[str],
    columns: list[str],
    says: str,
    following: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "train" if "text" in rows[0] or "review" in rows[0] else rows[0]
    path = table(tmp_path / "in" / f"{name}.csv", *(rows if name == "train" else rows[1:]))
    run(tmp_path / "out", "labelled", "--input", path, *(["--columns", *columns] if columns else []))
    out = capsys.readouterr().out
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    commands = [line for line in out.splitlines() if line.startswith("next: ")]
    assert len(notes) == bool(says), out
    assert all(re.search(says, note) for note in notes), out
    assert len(commands) == bool(following), out
    assert all(f"tlc_jax.{following} " in command for command in commands)


def test_two_tables_of_one_name_are_said_to_be_one_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path / "in" / "train.csv", "text,label", *GOOD)
    table(tmp_path / "in" / "train.tsv", "text\tlabel", "other\ta")
    run(tmp_path / "out", "labelled", "--input", tmp_path / "in")
    assert "note: in/train.csv, in/train.tsv are read as one set, train\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "text,label,label\na,1,2\n", ["labelled"], r"a\.csv has two columns called label: rename"),
        (
            "a.csv",
            '"music, and more",neg\nb,pos\n',
            ["labelled"],
            r"or, if its first line is no header but a row, put the names of all 2 columns above it",
        ),
        ("a.jsonl", '{"body": "hello"}\n', ["text"], r"it has body: .* --columns text=body$"),
        ("a.jsonl", '{"text": "hello"}\n{"body": "b"}\n', ["text"], r"name another with --columns text=NAME"),
        ("a.txt", "a", ["text", "--out", "/"], "--out / cannot be a new folder"),
        ("a.txt", "a", ["text", "--out", "a.txt"], r"--out \S*a\.txt is a file: give a new folder"),
    ],
)
def test_the_sentence_says_what_prepare_takes(
    name: str, content: str, options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content)
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", *options, "--input", name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_macs_put_beside_the_files_of_an_archive(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "d.zip",
        {
            "d/train.csv": "\n".join(["text,label", *GOOD]),
            "__MACOSX/d/._train.csv": "\0\5\26\7\0",
            "d/._x.csv": "\0",
        },
    )
    about = run(tmp_path / "out", "labelled", "--input", path)
    assert about["counts"].keys() == {"train"}


def test_an_error_in_an_archive_names_the_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "d.zip", {"d/train.csv": "text,label\na,b\nc\n"})
    with pytest.raises(UserError, match=r"^d/train\.csv in d\.zip line 3 has 1 cell between commas"):
        run(tmp_path / "out", "labelled", "--input", path)
    assert [other.name for other in tmp_path.iterdir()] == ["d.zip"], "the input can be corrected"


def test_the_beginning_of_another_request_is_not_discarded(tmp_path: Path) -> None:
    """As kill -9 leaves it while the first archive is unpacked."""
    path, out = table(tmp_path / "in" / "train.csv", "text,label", *GOOD), tmp_path / "k"
    begun = {"name": "text", "inputs": ["big.zip"], "revision": None, "columns": {}, "licence": None}
    unfinished = tmp_path / "k.unfinished"
    (unfinished / "inputs").mkdir(parents=True)
    (unfinished / "inputs" / "half").write_text("half")
    (unfinished / "progress.json").write_text(json.dumps({"request": begun, "revision": None, "shards": {}}))
    command = rf"prepare text --input big\.zip --out {out} resumes it; or remove it \(rm -r {unfinished}\)"
    with pytest.raises(UserError, match=command):
        run(out, "labelled", "--input", path)
    assert (unfinished / "inputs" / "half").exists()
    begun |= {"name": "labelled", "inputs": [str(path)], "licence": "x"}
    (unfinished / "progress.json").write_text(json.dumps({"request": begun, "revision": None, "shards": {}}))
    run(out, "labelled", "--input", path)
    assert not unfinished.exists(), "the same data with other options"
