"""The user's own tables: what a header, a row and a set of labels must be, and what is said of those that are
not."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tables import OTHER, TRAIN, jsonl, of_model, rows_of, tables
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.labelled.labelled_rows import read_table
from tlc_jax.data.labelled.labelled_source import Examples, LabelledSource
from tlc_jax.data.labelled.labels import class_names, class_notes


def test_a_table_as_it_should_be(tmp_path: Path) -> None:
    source = tables(tmp_path)
    assert source.label_names == ("x", "y")
    assert source.reported == ("v",)
    assert source.read("train").texts == [("a",), ("b",), ("c",), ("d",)]
    assert source.read("train").labels == [0, 1, 0, 1]
    assert source.read("v").labels == [0]
    assert source.notes == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text\tlabel\na\tb\tx\nb\ty\n", r"line 2 has 3 cells between tabs, but the first line has 2"),
        ("text\tlabel\na\tx\nb\n", r"line 3 has 1 cell"),
        ('text\tlabel\n"a\tb"\tx\n', "quotes do not hide tabs"),
        ('text\tlabel\n"he said ""no"""\tx\n', "line 2 has cells in quotes"),
        ('text\tlabel\n""\tx\n', "line 2 has cells in quotes"),
        ('"text"\t"label"\n"a"\t"x"\n', "line 1 names columns in quotes"),
        ('text\tlabel\na\t"x"\nb\t"y"\n', "line 2: the label '\"x\"' has quotes"),
        ("text\tlabel\na\tx\n\nb\ty\n", "line 3 is blank"),
        ("text\tlabel\na\tx\ntext\tlabel\n", "line 3 repeats the names of the columns"),
        ("text\tlabel\n", "has no rows"),
        ("", "has no rows"),
        ("\n\n", "has no rows"),
        ("words\tlabel\na\tx\n", r"line 1 has the columns words, label; wanted are text, label"),
        ("a fine film\tx\nb\ty\n", r"line 1 has the columns a fine film, x; .* put their names above"),
        ("sentence1\tsentence2\tlabel\na\tb\tx\n", "wanted are text, label and, for pairs of texts, text_b"),
        ("text\ttext\tlabel\na\tb\tx\n", "two columns called 'text'"),
        ("text\tText \tlabel\na\tb\tx\n", "two columns called 'text'"),
        ("text\tlabel\n\tx\n", "line 2: text is empty"),
        ("text\tlabel\n   \tx\n", "line 2: text is empty"),
        ("text\ttext_b\tlabel\na\t\tx\n", "line 2: text_b is empty"),
        ("text\nlonely\n", "has no labels"),
        ("text\tlabel\na\t\nb\t\n", "has no labels"),
        ("text\tlabel\na\tx\nb\t\nc\ty\n", r"line 3 has no label \(''\)"),
        ("text\tlabel\na\tx\nb\t  \nc\ty\n", r"line 3 has no label \('  '\)"),
        ("text\tlabel\na\tx\nb\tz \nc\ty\n", "line 3: the label 'z ' has spaces around it"),
        ("text\tlabel\na\the\nb\tHe\nc\tHE\n", "'He' is another spelling of 'he' in line 2"),
        (
            "text,label\na,x\nb,y\n",
            r"line 1 has commas between the names of columns, not tabs: convert it",
        ),
        ("label;text\nx;a\ny;b\n", "line 1 has semicolons between the names of columns"),
        ("text\tlabel\n" + '"a, b"\tx\n"c"\ty\n' * 3, "quotes around the text of 6 of its 6 rows"),
        (rows_of(["x", "y"] * 5) + "\tx\n\ty\n", r"line 12: text is empty \(so are 1 other rows\)"),
        (
            rows_of(["x", "y"] * 50 + ["none"] * 4),
            r"line 102 has no label \('none'\).* at least 5 rows and 1 %",
        ),
        (rows_of(["x", "y"] * 300 + ["none"] * 6), "line 602 has no label"),
        (rows_of(["x", "y"] * 5 + ["nan"] * 50), "line 12 has no label"),
        (rows_of(["x", "y"] * 5 + [""] * 50), "line 12 has no label"),
        (rows_of(["0", "1"] * 300 + ["-1"] * 4), "line 602 has the label -1 beside 0"),
        ("text\tlabel\na\tx\nb\tX\nc\ty\n", "line 3: the label 'X' is another spelling of 'x' in line 2"),
        ("text\tlabel\na\t1\nb\t1.0\nc\t0\n", "'1.0' is another spelling of '1' in line 2"),
        ("text\tlabel\na\tx\nb\ty\nc\tx\nd\tz\ne\tw\n", "line 3: the label 'y' is in no other row"),
        (f"text\tlabel\na\t{'x' * 300}\nb\ty\n", "more than 200 characters"),
        ("text\tlabel\na\tx\x1b[2J\nb\ty\n", r"the label 'x\\x1b\[2J' has .* unprintable"),
        ("text\tlabel\na\t0\nb\t1\nc\t-1\nd\t0\n", "line 4 has the label -1 beside 0"),
        (rows_of(list(range(100))), "100 different labels in 100 rows"),
        (rows_of([i // 2 for i in range(4000)]), "at most 1,000 classes"),
        (rows_of([f"{i // 2 / 7:.2f}" for i in range(200)]), "which are measurements, not classes"),
    ],
)
def test_a_tsv_is_refused_by_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        tables(tmp_path, train__tsv=text)
    assert "train.tsv" in str(caught.value)


def test_a_few_empty_texts_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "xy"[i % 2]} for i in range(198)]
    rows[7]["text"], rows[9]["text"] = "  ", None  # type: ignore[assignment]
    source = tables(tmp_path, train__jsonl=jsonl(*rows, GOOD, GOOD), v__tsv=OTHER + "\tx\n")
    assert len(source.read("train").texts) == len(source.read("train").labels) == 198
    assert source.read("v").texts == [("e",)]
    assert source.notes == (
        "train.jsonl: left out for an empty text: 2 rows, the first in line 8",
        "v.tsv: left out for an empty text: 1 row, the first in line 3",
    )
    (tmp_path / "blind.tsv").write_text("id\ttext\n1\ta\n2\t \n3\tb\n")
    with pytest.raises(UserError, match=r"blind\.tsv line 3: text is empty"):  # each is to be predicted
        of_model(tmp_path / "blind.tsv")


def test_a_table_without_texts_beside_others_is_not_read(tmp_path: Path) -> None:
    source = tables(tmp_path, labels__jsonl=jsonl({"id": 0, "name": "x"}), v__tsv=OTHER)
    assert source.reported == ("v",)
    assert source.notes == ("not read: labels.jsonl, which has no column text",)
    assert "labels.jsonl" not in source.files
    (tmp_path / "v.tsv").unlink()
    with pytest.raises(UserError, match=r"labels\.jsonl line 1 has the columns id, name"):
        open_labelled(DataConfig(dir=str(tmp_path)))


def test_a_table_of_commas_and_an_array_convert_as_is_said(tmp_path: Path) -> None:
    rows = [{"text": f"a, {i}", "label": "xy"[i % 2]} for i in range(6)]
    csv_rows = "text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in rows)
    for name, content in (("a.tsv", csv_rows), ("a.jsonl", json.dumps(rows))):
        path, new = tmp_path / name, tmp_path / f"{name}.jsonl"
        path.write_text(content)
        with pytest.raises(UserError) as caught:
            read_table(path)
        command = str(caught.value).partition("convert it (")[2].removesuffix(")")
        command = command.replace("< FILE", f"< {path}").replace("> NEW.jsonl", f"> {new}")
        subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
        assert read_table(new).texts == [(row["text"],) for row in rows]


PIECES = st.sampled_from(
    [
        b"",
        b"\t",
        b"\n",
        b'"',
        b"\r",
        b"\0",
        b"\xff",
        b"NaN",
        b"null",
        b"-1",
        b"\xef\xbb\xbf",
        b"{",
        b"[" * 2000,
        b" ",
    ]
)
GOOD = {"text": "a", "label": "x"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{\n", "line 1 is not JSON"),
        (jsonl(GOOD, [1, 2]), "line 2 is not a JSON object but a list"),
        (jsonl(GOOD, "text"), "not a JSON object but text"),
        (jsonl([GOOD, GOOD]), r"is one JSON array, not an object on each line: convert it \(python -c"),
        (json.dumps([GOOD, GOOD], indent=1), "is one JSON array"),
        ("[" * 100_000 + "\n", "line 1 is nested too deeply"),
        ('{"text": "a", "label": "x", "text": "b"}\n', "the same field twice"),
        (jsonl(GOOD, {"text": "b"}), "line 2 has no label, but line 1 has"),
        (jsonl(GOOD, {**GOOD, "text_b": "c"}), "line 2 has text_b, but line 1 has none"),
        (jsonl({**GOOD, "text_b": "c"}, GOOD), "line 2 has no text_b, but line 1 has"),
        (jsonl({**GOOD, "text_b": None}), "line 1: text_b is empty"),
        (jsonl({**GOOD, "text": 3}), "line 1: text is a whole number, not text"),
        (jsonl({**GOOD, "text": {"en": "a"}}), "line 1: text is an object, not text"),
        (jsonl({**GOOD, "text": "\ud800"}), "line 1: text is not a string of Unicode"),
        (jsonl(GOOD, {**GOOD, "label": None}), r"line 2 has no label \('None'\)"),
        (jsonl(GOOD) + '{"text": "b", "label": NaN}\n', r"line 2 has no label \('nan'\)"),
        (jsonl(GOOD, {**GOOD, "label": ["x"]}), "line 2: the label is a list, but that of line 1 is text"),
        (jsonl({**GOOD, "label": ["x"]}), "line 1: the label is a list, not text or a number"),
        (
            jsonl({**GOOD, "label": 1}, {**GOOD, "label": "1"}),
            "line 2: the label is text, but that of line 1",
        ),
        (jsonl({**GOOD, "label": 1}, {**GOOD, "label": True}), "line 2: the label is true or false"),
        (jsonl({**GOOD, "label": 1}, {**GOOD, "label": 1.0}), "line 2: the label is a number, but"),
    ],
)
def test_json_lines_are_refused_by_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        tables(tmp_path, train__jsonl=text)
    assert "train.jsonl" in str(caught.value)


def test_names_of_columns_are_found_in_capitals_with_spaces_and_behind_a_mark(tmp_path: Path) -> None:
    source = tables(tmp_path, train__tsv="\ufeff Text\tid\tLABEL \n" + "a\t1\tx\nb\t2\ty\n" * 2)
    assert source.read("train").texts == [("a",), ("b",)] * 2
    assert source.notes == ("train.tsv: columns not used: id",)


def test_single_texts_and_pairs_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"v\.tsv has pairs of texts .* but .*train\.tsv has single texts"):
        tables(tmp_path, v__tsv="text\ttext_b\tlabel\na\tb\tx\n")


def test_packed_tables_and_capital_suffixes_are_read_and_the_rest_is_told(tmp_path: Path) -> None:
    (tmp_path / "TRAIN.TSV.GZ").write_bytes(gzip.compress(TRAIN.encode()))
    (tmp_path / "v.jsonl.zst").write_bytes(pyarrow.Codec("zstd").compress(jsonl(GOOD).encode(), asbytes=True))
    (tmp_path / "v.xls").write_text("text,label\n")
    (tmp_path / "._v.tsv").write_bytes(b"\0\5\26\7")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "more").mkdir()
    source = open_labelled(DataConfig(dir=str(tmp_path)))
    assert source.read("train").labels == [0, 1, 0, 1]
    assert source.reported == ("v",)
    assert source.notes == ("not read: ._v.tsv, more/, v.xls",)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"train.tsv": TRAIN, "tuning.tsv": OTHER},
            "the part of train that is held out for tuning: rename it",
        ),
        ({"train.tsv": TRAIN, "train.jsonl": jsonl(GOOD)}, r"train twice, as train\.jsonl and train\.tsv"),
        ({"train.tsv": TRAIN, "v.tsv.gz": None, "v.tsv": OTHER}, "v twice"),
        ({"train.tsv": "text\tlabel\na\tx\na\ty\n" + "a\tx\na\ty\n"}, "too few examples to hold some out"),
        ({"train.tsv": TRAIN, "a:b.tsv": OTHER}, "has a name that cannot be the name of a set: rename it"),
        ({"train.xls": TRAIN}, r"needs train\.tsv .* it holds train\.xls"),
    ],
)
def test_folders_that_make_no_task(tmp_path: Path, files: dict[str, str | None], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_bytes(gzip.compress(OTHER.encode()) if text is None else text.encode())
    with pytest.raises(UserError, match=says):
        open_labelled(DataConfig(dir=str(tmp_path)))


@pytest.mark.parametrize("where", ["reviews.tsv", "folder/train.tsv"])
def test_of_one_table_a_tenth_is_held_out_to_report_on(tmp_path: Path, where: str) -> None:
    """Equal texts on one side, each example once, the same ones whatever the order and the seed."""
    rows = [(f"number {i % 500} of many", "xy"[i % 2]) for i in range(1000)]
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    folder = path.parent if path.name == "train.tsv" else path

    def read(rows: list[tuple[str, str]]) -> tuple[LabelledSource, Examples, Examples]:
        path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
        source = open_labelled(DataConfig(dir=str(folder)))
        return source, source.read("train"), source.read("held_out")

    source, train, held_out = read(rows)
    assert source.reported == ("held_out",)
    assert source.trains
    assert source.notes == (
        f"{len(held_out.texts):,} of the examples are held out to report on, since {path.name} is the only "
        "table with labels",
    )
    assert not set(train.texts) & set(held_out.texts)
    assert 60 < len(held_out.texts) < 140
    both = [
        (text, "xy"[label])
        for e in (train, held_out)
        for (text,), label in zip(e.texts, e.labels, strict=True)
    ]
    assert sorted(both) == sorted(rows)
    assert set(read(rows[::-1])[2].texts) == set(held_out.texts)


def test_what_is_no_table_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("a")
    with pytest.raises(
        UserError, match=r"v\.txt is neither a table nor a folder: give --data\.dir a table \("
    ):
        open_labelled(DataConfig(dir=str(tmp_path / "v.txt")))


def test_a_set_without_labels_is_told_and_not_reported(tmp_path: Path) -> None:
    source = tables(tmp_path, test__tsv="text\nf\n", blind__tsv="text\tlabel\nf\t-1\ng\t-1\n")
    assert source.reported == ("v",)
    assert source.unlabelled == ()
    assert [note.split(":")[0] for note in source.notes] == [
        "blind.tsv has no labels",
        "test.tsv has no labels",
    ]
    assert "test.tsv" not in source.files, "it changes nothing of what is trained"


# --- with the labels of a model --------------------------------------------------------------------


def test_what_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a\n")
    for where, says in (
        (tmp_path, r"needs a table, \.tsv, \.csv, \.jsonl or \.parquet; it holds notes\.txt"),
        (tmp_path / "none.tsv", "does not exist"),
        (tmp_path / "notes.txt", "is neither a table nor a folder"),
    ):
        with pytest.raises(UserError, match=says):
            of_model(where)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), min_size=1),
            st.sampled_from(["x", "y"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_text_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    """Or the line is named: no text is cut, moved to another column, or taken for a label."""
    path = tmp_path_factory.mktemp("rows") / "t.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    try:
        table = read_table(path)
    except UserError as error:
        assert "t.tsv line " in str(error)  # noqa: PT017
    else:
        assert list(zip(table.texts, table.labels or [], strict=True)) == [((t,), label) for t, label in rows]


@given(data=st.data())
def test_a_table_that_was_damaged_is_refused_or_has_the_labels_that_it_had(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bytes changed, taken out, put in: nothing but a sentence, and no piece of a text as a class unsaid."""
    folder = tmp_path_factory.mktemp("damaged")
    rows = [(f"the cat {i} sat", "xy"[i % 2]) for i in range(12)]
    tsv = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows]).encode()
    lines = jsonl(*({"text": text, "label": label} for text, label in rows)).encode()
    for name, content in (("train.tsv", tsv), ("train.jsonl", lines)):
        damaged = bytearray(content)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(damaged)))
            damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(PIECES)
        (folder / name).write_bytes(bytes(damaged))
        try:
            table = read_table(folder / name)
            if table.labels is None:
                continue
            names = class_names(table.labels, table.lines, table.path)
        except UserError:
            continue
        notes = class_notes(table.labels, table.lines, table.path)
        assert name == "train.jsonl" or {*names} <= {"x", "y"} or notes


def test_many_columns_are_no_quadratic_work(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("\t".join(["text", *map(str, range(200_000))]) + "\n")
    started = time.process_time()
    with pytest.raises(UserError, match="no rows"):
        read_table(tmp_path / "t.tsv")
    assert time.process_time() - started < 5
