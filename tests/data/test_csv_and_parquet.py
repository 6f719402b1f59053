"""Tables in .csv and .parquet, and text in .parquet: read as the same rows in .tsv are, or refused by line or
row."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.tables import OTHER, of_model, tables
from tlc_jax.config import DataConfig
from tlc_jax.config.data import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data import parquet_rows
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.text.sources import open_source

TEXTS = ["plain", 'a "quoted", text', "two\nlines", "tab\there"]
LABELS = ["x", "y", "x", "y"]


def parquet(path: Path, classes: dict[str, list[str]] | None = None, **columns: Any) -> Path:
    """A file as pandas writes it; with names of classes, as the hub's data sets have them."""
    table = pa.table(columns)
    if classes:
        features = {name: {"names": names, "_type": "ClassLabel"} for name, names in classes.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def write_csv(path: Path, *rows: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_labelled_tables_hold_any_text(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        parquet(tmp_path / "train.parquet", text=TEXTS, label=LABELS, more=[1.5] * 4)
    else:
        write_csv(
            tmp_path / "train.csv",
            ["Text", "label", "more"],
            *map(list, zip(TEXTS, LABELS, "abcd", strict=True)),
        )
        if kind == "csv.gz":
            (tmp_path / "train.csv.gz").write_bytes(gzip.compress((tmp_path / "train.csv").read_bytes()))
            (tmp_path / "train.csv").unlink()
    source = tables(tmp_path, v__tsv=OTHER)
    assert source.read("train").texts == [(text,) for text in TEXTS]
    assert source.read("train").labels == [0, 1, 0, 1]
    assert source.notes == (f"train.{kind}: columns not used: more",)
    assert source.files.keys() == {f"train.{kind}", "v.tsv"}


def test_names_of_classes_come_from_the_file(tmp_path: Path) -> None:
    """As the hub's data sets have them; -1 there stands for no label."""
    names = {"label": ["negative", "positive"]}
    parquet(tmp_path / "train.parquet", names, text=TEXTS, label=[0, 1, 0, 1])
    parquet(tmp_path / "validation.parquet", names, text=TEXTS, label=[1, 1, 0, 0])
    parquet(tmp_path / "test.parquet", names, text=TEXTS, label=[-1] * 4)
    source = open_labelled(DataConfig(dir=str(tmp_path)))
    assert source.label_names == ("negative", "positive")
    assert source.read("validation").labels == [1, 1, 0, 0]
    assert source.reported == ("validation",)
    assert "test.parquet has no labels" in str(source.notes)
    assert of_model(tmp_path / "test.parquet", "negative", "positive").unlabelled == ("test",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,label\na,x\nb\nc,y\n",
            r"train\.csv line 3 has 1 cell between commas, .* first line has 2",
        ),
        (
            "text,label\na,x\nb,c,y\n",
            r"train\.csv line 3 has 3 cells .* put quotes around a text with commas",
        ),
        ('text,label\n"a\nb",x\n"c"d,y\n', r"train\.csv line 4 is not CSV .* double the quotes"),
        ('text,label\na,x\n"b,y\nc,x\n', r"train\.csv line 3 begins a row with a quote that nothing ends"),
        (
            "text;label\na;x\n",
            r"train\.csv line 1 has semicolons between the names .* convert it \(python -c",
        ),
        (
            "sentence,label\na,x\n",
            r"train\.csv line 1 has the columns sentence, label; .* '1s/sentence/text/'",
        ),
        ("text,label\na,x\nb,\nc,y\n", r"train\.csv line 3 has no label"),
        ("text,label\n,x\n,y\n", r"train\.csv line 2: text is empty"),
    ],
)
def test_a_csv_is_refused_by_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        tables(tmp_path, train__csv=content)


def test_a_parquet_is_refused_by_row_or_column(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    for columns, message in (
        (
            {"sentence": ["a"], "label": ["x"]},
            r"train\.parquet row 1 has the columns sentence, label; wanted",
        ),
        ({"text": [["a"], ["b"]], "label": ["x", "y"]}, r"the column text holds values of the type list"),
        ({"text": [1, 2], "label": ["x", "y"]}, r"train\.parquet row 1: text is a whole number, not text"),
        ({"text": ["a", "b", "c"], "label": ["x", None, "y"]}, r"train\.parquet row 2 has no label"),
    ):
        parquet(path, **columns)
        with pytest.raises(UserError, match=message):
            tables(tmp_path)
    parquet(path, {"label": ["x", "y"]}, text=TEXTS, label=[0, 1, 2, 0])
    with pytest.raises(UserError, match=r"row 3: label is 2, but the file names 2 classes"):
        tables(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text"])
def test_a_damaged_parquet_is_refused_by_name(damage: str, tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "train.parquet", text=[f"{i} {'word ' * 50}" for i in range(500)], label=["x", "y"] * 250
    )
    content = bytearray(path.read_bytes())
    start = content.index(b"word")
    content[start - 20 : start + 20] = bytes(40)
    path.write_bytes(
        {"cut": content[:-100], "empty": b"", "flipped": content, "text": b"text,label\n" * 9}[damage]
    )
    with pytest.raises(
        UserError, match=r"train\.parquet cannot be read as parquet \(.*copy or download it again"
    ):
        tables(tmp_path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_sentence_pairs(kind: str, tmp_path: Path) -> None:
    """Names of languages say which column is which; ends of lines in a sentence become spaces."""
    if kind == "csv":
        write_csv(
            tmp_path / "p.csv", ["fr", "en"], ["un, deux", "one, two"], ["trois\nquatre", "three\nfour"]
        )
    else:
        rows = [{"fr": "un, deux", "en": "one, two"}, {"fr": "trois\nquatre", "en": "three\nfour"}]
        parquet(tmp_path / "p.parquet", id=[1, 2], translation=rows)
    config = PairsConfig(train=f"p.{kind}", validation="", test="", dir=str(tmp_path))
    [source] = open_pairs(config).train
    assert list(source.pairs()) == [("one, two", "un, deux"), ("three four", "trois quatre")]
    assert source.label == "p"


def test_pairs_without_names_of_languages_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "p.parquet", a=["one"], b=["un"])
    [source] = open_pairs(PairsConfig(train="p.parquet", validation="", test="", dir=str(tmp_path))).train
    with pytest.raises(UserError, match=r"p\.parquet has the columns of text a, b, not en and fr: rename"):
        list(source.pairs())
    (tmp_path / "p.csv").write_text("en,fr\none,un\ntwo\n")
    [source] = open_pairs(PairsConfig(train="p.csv", validation="", test="", dir=str(tmp_path))).train
    with pytest.raises(UserError, match=r"p\.csv line 3 has 1 cell"):
        list(source.pairs())


def test_text_in_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", text=["One.\n\nTwo.", None, "Three."], title=["1", "2", "3"])
    source = open_source(DataConfig(dir=str(tmp_path)))
    assert list(source.documents()) == ["One.\n\nTwo.", "Three."]
    source = open_source(DataConfig(dir=str(tmp_path), text_field="body"))
    with pytest.raises(
        UserError, match=r"a\.parquet has no column 'body'; it has text, title: set --data\.text-field"
    ):
        list(source.documents())


def test_few_rows_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has the bytes that it may have, not the whole row group."""
    path = parquet(tmp_path / "a.parquet", text=[f"{i:06d}" + "x" * 994 for i in range(3000)])
    monkeypatch.setattr(parquet_rows, "_AT_ONCE", 100_000)
    monkeypatch.setattr(parquet_rows, "_MOST_ROWS", 10_000)
    sizes = [len(batch[0]) for batch in parquet_rows._batches(path, ["text"])]
    assert sum(sizes) == 3000
    assert max(sizes) <= 110  # of 1,000 bytes each
    assert [row["text"][:6] for _, row in parquet_rows.parquet_rows(path, ["text"])] == [
        f"{i:06d}" for i in range(3000)
    ]
