"""Tables of sentence pairs: which column is the source is certain, or asked for."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tlc_jax.config import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.pairs.languages import columns_of, is_header, language
from tlc_jax.data.pairs.pair_sources import open_pairs

ENGLISH, FRENCH = ["a dog runs", "the cat"], ["un chien court", "le chat"]


def pairs(folder: Path, text: str, name: str = "t.tsv", source: str = "en", target: str = "fr") -> list:
    content = text.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    config = PairsConfig(train=name, validation="", test="", dir=str(folder), source=source, target=target)
    return list(open_pairs(config).train[0].pairs())


def french_first(header: str) -> str:
    return header + "\n" + "".join(f"{f}\t{e}\n" for e, f in zip(ENGLISH, FRENCH, strict=True))


@pytest.mark.parametrize(
    "header",
    [
        "fr\ten", "FR\tEN", "Fr\tEn", "fr \t en", "\ufefffr\ten", "fra\teng", "fre\teng", "French\tEnglish",
        "french\ten", "fr-FR\ten_US", "fr_CA\tEN-gb", "target\tsource", "tgt\tsrc", "trg\tSRC",
        "French (France)\tEnglish (US)", "French sentence\tEnglish sentence", "text_fr\ttext_en",
        "sentence_fr\tsentence_en", "fra_Latn\teng_Latn", "fr\ttext_en", "tgt_fr\tsrc_en", "French text\ten",
    ],
)  # fmt: skip
def test_a_header_says_which_column_is_which(tmp_path: Path, header: str) -> None:
    assert pairs(tmp_path, french_first(header)) == list(zip(ENGLISH, FRENCH, strict=True))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("fr\tde", "line 1 has the columns fr, de, not en and fr"),
        ("FR\tDE", "has the columns FR, DE"),
        ("French\tGerman", "has the columns French, German"),
        ("Français\tEnglish", "has the columns Français, English"),
        ("French sentence\tGerman sentence", "not en and fr"),
        ("en_US,en_GB,fr", "line 1 has commas between the names"),
        ("text_fr\ttext_en\tsentence_en", "names text_en and sentence_en, and only one can be used"),
        ("text_en_fr\ttext_en", "not en and fr"),
        ("id_fr\ttext_en", "not en and fr"),
        ('"en_US"\t"en_GB"\t"fr"', "line 1 names columns in quotes"),
        ("source\treference", "not en and fr"),
        ("sentence\ttranslation", "not en and fr"),
        ('"fr"\t"en"', "line 1 names columns in quotes"),
    ],
)
def test_a_header_that_leaves_doubt_is_refused(tmp_path: Path, header: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        pairs(tmp_path, french_first(header))
    assert "t.tsv" in str(caught.value)


def test_regions_of_one_language_are_told_apart(tmp_path: Path) -> None:
    text = "en_GB\ten_US\ncolour\tcolor\n"
    assert pairs(tmp_path, text, source="en-US", target="en-GB") == [("color", "colour")]
    with pytest.raises(UserError, match=r"line 1 names en_GB and en_US, and only one can be used"):
        pairs(tmp_path, text, source="en", target="fr")
    with pytest.raises(UserError, match="not zh-TW and en"):
        pairs(tmp_path, "zh_CN\ten\na\tb\n", source="zh-TW", target="en")


@pytest.mark.parametrize(
    "line", ["Go.\tVa !", "Hello\tBonjour", "Text\tTexte", "No\tNon", "It is so.\tC'est ainsi.", "a\tb"]
)
def test_a_first_pair_is_no_header(tmp_path: Path, line: str) -> None:
    source, target = line.split("\t")
    assert pairs(tmp_path, f"{line}\nthe cat\tle chat\n") == [(source, target), ("the cat", "le chat")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1\ta dog\t2\tun chien\n", "has 4 columns, and no first line says which are en and fr"),
        ("Go.\tVa !\tCC-BY 2.0 (France)\n", r"has 3 columns, .* or keep two \(cut -f 1,2 FILE\)"),
        ("a dog\n", "line 1 has no tab"),
        ("", "has no pairs"),
        ("en\tfr\n", "has no pairs"),
        ("a dog\tun chien\nthe\tcat\tle chat\n", r"line 2 has 3 cells between tabs"),
        ("en\tfr\na dog\tun chien\nthe cat\n", r"line 3 has 1 cell"),
        ("en\tfr\na dog\tun chien\nen\tfr\n", "line 3 repeats the names"),
        ("a dog\tun chien\n\nthe cat\tle chat\n", "line 2 is blank"),
        ('"a dog"\t"un chien"\n' * 5, "has quotes around all cells of 5 of its 5 rows"),
        ('"a dog"\t"un chien"\n' * 39 + "a\tb\n", "has quotes around all cells of 39 of its 40 rows"),
        ("en,fr\na dog,un chien\n", r"line 1 has commas between the names .* not tabs: convert it \(python"),
    ],
)
def test_rows_are_alike_or_refused_by_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        pairs(tmp_path, text)
    assert "t.tsv" in str(caught.value)


def test_a_few_pairs_in_quotes_are_as_they_are(tmp_path: Path) -> None:
    rows = [('"a dog"', '"un chien"'), ('"the cat"', '"le chat"')]
    text = "".join(f"{e}\t{f}\n" for e, f in rows)
    assert pairs(tmp_path, text) == rows
    assert pairs(tmp_path, text + "a\tb\n" * 3) == [*rows, *[("a", "b")] * 3]


def test_named_columns_may_have_others_beside_them(tmp_path: Path) -> None:
    text = "id\tfr\tid\ten\n7\tun chien\t8\ta dog\n"
    assert pairs(tmp_path, text) == [("a dog", "un chien")]


def test_empty_sides_are_rows_and_blank_lines_at_the_end_are_none(tmp_path: Path) -> None:
    assert pairs(tmp_path, "a dog\t\n\t\n\tle chat\n\n\n") == [("a dog", ""), ("", ""), ("", "le chat")]


def test_packed_tables_in_capitals(tmp_path: Path) -> None:
    assert pairs(tmp_path, french_first("FR\tEN"), "T.TSV.GZ") == list(zip(ENGLISH, FRENCH, strict=True))
    config = PairsConfig(train="T.TSV.GZ", validation="", test="T.TSV.GZ", dir=str(tmp_path))
    assert open_pairs(config).test[0].label == "T"


def test_globs_match_no_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n")
    (tmp_path / "._a.tsv").write_bytes(b"\0\5\26\7")
    config = PairsConfig(train="*.tsv", validation="", test="", dir=str(tmp_path))
    assert list(open_pairs(config).train[0].pairs()) == [("x", "y")]


@pytest.mark.parametrize("name", ["/etc/*.tsv", "**.tsv", "/etc/none.tsv", "../none.tsv"])
def test_odd_names_end_in_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"data\.train"):
        open_pairs(PairsConfig(train=name, validation="", test="", dir=str(tmp_path)))


def test_a_file_beside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "t.tsv").write_text("x\ty\n")
    for name in ("../t.tsv", str(tmp_path / "t.tsv")):
        config = PairsConfig(train=name, validation="", test="", dir=str(tmp_path / "in"))
        assert list(open_pairs(config).train[0].pairs()) == [("x", "y")]


def test_languages_are_one_however_they_are_written() -> None:
    assert {language(name) for name in ("fr", "FRA", "fre", " French ")} == {("fr", "")}
    assert language("pt_BR") == language("pt-br") == ("pt", "br")
    assert language("tlh") == ("tlh", "")
    assert columns_of(["tlh", "en"], "en", "tlh") == (1, 0)
    assert is_header(["en", "Deutsch und German"]) is False
