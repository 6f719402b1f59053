"""The classes of a user's tables: which labels they are, and those that a set or a model has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.tables import TRAIN, jsonl, of_model, rows_of, tables
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.labelled_source import NO_LABEL


@pytest.mark.parametrize("missing", ["nan", "NaN", "None", "null", "N/A", "NULL", "<NA>", "#N/A", "-", "?"])
def test_what_stands_for_no_label_is_no_class(tmp_path: Path, missing: str) -> None:
    with pytest.raises(UserError, match=r"train\.tsv line 3 has no label"):
        tables(tmp_path, train__tsv=f"text\tlabel\na\tx\nb\t{missing}\nc\ty\n")


@pytest.mark.parametrize("word", ["none", "null", "NA", "N/A", "-", "?", "None"])
def test_words_for_no_label_are_classes_where_they_are_frequent(tmp_path: Path, word: str) -> None:
    train = rows_of([word, "x", "y"] * 5)
    source = tables(tmp_path, train__tsv=train, v__tsv=f"text\tlabel\na\tx\nb\t{word}\n")
    assert set(source.label_names) == {word, "x", "y"}
    assert source.notes == (f"train.tsv: {word} is a class: 5 rows",)
    assert source.read("v").labels == [source.label_names.index(name) for name in ("x", word)]


def test_minus_one_is_negative_beside_frequent_neutral_and_positive(tmp_path: Path) -> None:
    blind = "text\tlabel\na\t-1\nb\t-1\n"
    source = tables(
        tmp_path,
        train__tsv=rows_of(["-1", "0", "1"] * 5),
        v__tsv="text\tlabel\na\t-1\nb\t1\n",
        blind__tsv=blind,
    )
    assert source.label_names == ("-1", "0", "1")
    assert source.read("v").labels == [0, 2]
    assert source.notes[0].startswith("blind.tsv has no labels") or "-1 is a class: 5 rows" in source.notes[0]
    assert "train.tsv: -1 is a class: 5 rows" in source.notes
    assert source.reported == ("v",)
    assert of_model(tmp_path / "blind.tsv", "-1", "0", "1").unlabelled == ("blind",)


def test_a_class_of_one_row_is_told(tmp_path: Path) -> None:
    source = tables(tmp_path, train__tsv=TRAIN + "e\tz\n")
    assert source.label_names == ("x", "y", "z")
    assert source.notes == ("train.tsv: in one row only, too few to learn from: z (the first in line 6)",)


def test_spaces_around_a_label_that_comes_without_them_are_taken_away(tmp_path: Path) -> None:
    source = tables(tmp_path, train__tsv=TRAIN + "e\tx \nf\t y\n", v__tsv="text\tlabel\na\tx \n")
    assert source.label_names == ("x", "y")
    assert source.read("train").labels == [0, 1, 0, 1, 0, 1]
    assert source.notes == (
        "train.tsv: spaces around the label removed: 2 rows, the first in line 6",
        "v.tsv: spaces around the label removed: 1 row, the first in line 2",
    )


def test_numbers_and_truth_are_labels(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": value} for value in (True, False, True, False)]
    source = tables(tmp_path, train__jsonl=jsonl(*rows), v__tsv="text\tlabel\na\tTrue\n")
    assert source.label_names == ("False", "True")
    assert source.read("v").labels == [1]


def test_a_label_that_train_has_not_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"v\.tsv line 3: label 'z' is none of the labels of train \(x, y\)"):
        tables(tmp_path, v__tsv="text\tlabel\na\tx\nb\tz\n")
    with pytest.raises(UserError, match="write it as 'x'"):
        tables(tmp_path, v__tsv="text\tlabel\na\tX\n")


def test_a_model_brings_its_labels_in_its_order(tmp_path: Path) -> None:
    tables(tmp_path, blind__tsv="text\tlabel\nf\t-1\n", bare__jsonl=jsonl({"text": "g"}))
    source = of_model(tmp_path / "v.tsv")
    assert source.label_names == ("y", "x", "z")
    assert (source.trains, source.reported, source.unlabelled) == (False, ("v",), ())
    assert source.read("v").labels == [1]
    source = of_model(tmp_path)
    assert (source.trains, source.reported, source.unlabelled) == (True, ("v",), ("bare", "blind"))
    assert source.read("blind").labels == source.read("bare").labels == [NO_LABEL]
    assert of_model(tmp_path / "train.tsv").reported == ("train",)


def test_labels_that_the_model_does_not_know(tmp_path: Path) -> None:
    tables(tmp_path)
    with pytest.raises(UserError, match=r"line 2: label 'x' is none of the classes of the model"):
        of_model(tmp_path / "v.tsv", "p", "q")
    with pytest.raises(UserError, match="write it as 'X'"):
        of_model(tmp_path / "v.tsv", "X", "Y")


def test_a_model_may_have_classes_of_odd_names(tmp_path: Path) -> None:
    """Of tables as they once were read."""
    (tmp_path / "v.tsv").write_text("text\tlabel\na\t-1\nb\tnone\nc\tpos \n")
    assert of_model(tmp_path / "v.tsv", "-1", "none", "pos ").read("v").labels == [0, 1, 2]
