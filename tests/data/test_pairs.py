"""Sentence pairs: where they come from, what is left out and counted, what is kept on disk."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from etils import epath
from hypothesis import given
from rich.console import Console

from tests.builders import sentence_pairs, write_pairs
from tlc_jax.config import PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data import cache
from tlc_jax.data.pairs import cleaning
from tlc_jax.data.pairs.catalogues import catalogue_files, read_catalogues
from tlc_jax.data.pairs.packed_pairs import PackedPairs
from tlc_jax.data.pairs.pair_packing import prepare_pairs
from tlc_jax.data.pairs.pair_sources import open_pairs
from tlc_jax.data.text_ids import encode_lines
from tlc_jax.data.tokenizer import TRANSLATION, load_tokenizer, train_tokenizer
from tlc_jax.storage import sealed

QUIET = Console(quiet=True)
VOCAB = 320


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def config(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PairsConfig:
    return PairsConfig(
        train="one.tsv,two.tsv.gz,three.tsv.zst",
        validation="validation.tsv",
        test="test.tsv",
        dir=str(folder),
        sequence_length=40,
        cache_dir=str(tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="module")
def packed(config: PairsConfig) -> PackedPairs:
    return prepare_pairs(config, VOCAB, QUIET)


def texts(packed: PackedPairs, name: str) -> list[tuple[str, str]]:
    pairs, tokenizer = packed.pairs(name), packed.tokenizer()

    def side(ids: np.ndarray, offsets: np.ndarray) -> list[str]:
        rows = [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)]
        assert all(row[-1] == 1 and 1 not in row[:-1] for row in rows)
        return [tokenizer.decode(row[:-1]) for row in rows]

    return list(
        zip(
            side(pairs.source_ids, pairs.source_offsets),
            side(pairs.target_ids, pairs.target_offsets),
            strict=True,
        )
    )


def test_every_fit_pair_is_kept_once_and_in_order(packed: PackedPairs) -> None:
    evaluated = {source for seed in (1, 2) for source, _ in sentence_pairs(60, seed)}
    seen: set[tuple[str, str]] = set()
    expected = []
    for pair in sentence_pairs(900):
        if pair[0] not in evaluated and pair not in seen:
            expected.append(pair)
        seen.add(pair)
    assert len(expected) < 900
    assert texts(packed, "train") == expected
    left_out = [source["left out"] for source in packed.manifest["sources"]]
    assert sum(counts["duplicate"] + counts["in an evaluation set"] for counts in left_out) == 900 - len(
        expected
    )
    assert [source["read"] for source in packed.manifest["sources"]] == [300, 300, 300]


def test_evaluation_sets_keep_every_line(packed: PackedPairs) -> None:
    assert packed.manifest["validation"] == ["validation"]
    assert packed.manifest["test"] == ["test"]
    for name, seed in (("validation", 1), ("test", 2)):
        assert packed.texts(name) == texts(packed, name) == sentence_pairs(60, seed)


def test_without_a_validation_set_pairs_are_held_out(config: PairsConfig) -> None:
    changed = dataclasses.replace(config, validation="", held_out=0.1)
    packed = prepare_pairs(changed, VOCAB, QUIET)
    assert packed.manifest["validation"] == ["held_out"]
    held_out, train = packed.texts("held_out"), texts(packed, "train")
    assert 0.05 < len(held_out) / (len(held_out) + len(train)) < 0.15
    assert not {source for source, _ in held_out} & {source for source, _ in train}


def test_what_is_like_an_evaluated_sentence_is_not_trained_on(config: PairsConfig, tmp_path: Path) -> None:
    """But for case, spaces and punctuation; on either side."""
    source, target = "A dog runs fast here.", "Un chien court vite ici."
    near = [
        (f"{source} ", "tout autre chose que cela"),
        (source.lower(), "encore une autre chose"),
        ("A dog, runs fast here", "et encore une autre"),
        ("the animal is running", target.upper()),
    ]
    kept = [
        ("a dog runs fast there", "un chien court vite là"),
        ("a cat sleeps on it", "un chat dort dessus"),
    ]
    (tmp_path / "t.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in [*near, *kept]))
    (tmp_path / "v.tsv").write_text(f"{source}\t{target}\n")
    changed = dataclasses.replace(config, dir=str(tmp_path), train="t.tsv", validation="v.tsv", test="")
    packed = prepare_pairs(changed, 280, QUIET)
    assert texts(packed, "train") == kept
    assert packed.manifest["sources"][0]["left out"]["in an evaluation set"] == len(near)


def test_held_out_pairs_have_nothing_like_them_in_training(tmp_path: Path) -> None:
    pairs = [(f"sentence number {i} is said", f"la phrase {i % 40} est dite") for i in range(400)]
    (tmp_path / "t.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    config = PairsConfig(
        train="t.tsv", validation="", test="", dir=str(tmp_path), sequence_length=80, held_out=0.02,
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    packed = prepare_pairs(config, 300, QUIET)
    held_out, train = packed.texts("held_out"), texts(packed, "train")
    assert held_out
    assert train
    for side in (0, 1):
        assert not {pair[side] for pair in held_out} & {pair[side] for pair in train}


def test_what_is_only_evaluated_on_needs_no_training_pairs(
    config: PairsConfig, packed: PackedPairs, tmp_path: Path
) -> None:
    for name in ("validation.tsv", "test.tsv"):
        shutil.copy(Path(str(config.dir)) / name, tmp_path)
    changed = dataclasses.replace(config, dir=str(tmp_path), tokenizer=str(packed.folder / "tokenizer.json"))
    evaluated = prepare_pairs(changed, VOCAB, QUIET, to_train=False)
    assert not len(evaluated.pairs("train"))
    assert evaluated.texts("test") == packed.texts("test")
    np.testing.assert_array_equal(evaluated.pairs("test").source_ids, packed.pairs("test").source_ids)
    with pytest.raises(UserError, match=r"there is no one\.tsv"):
        prepare_pairs(changed, VOCAB, QUIET)


def test_a_source_that_changes_while_it_is_read_is_named(config: PairsConfig, tmp_path: Path) -> None:
    """Between the passes that judge its pairs, train the tokenizer and encode them."""
    rows = [f"{a}\t{b}\n" for a, b in sentence_pairs(50)]
    for name in ("t.tsv", "v.tsv"):
        (tmp_path / name).write_text("".join(rows))
    reread = dataclasses.replace(config, dir=str(tmp_path), train="t.tsv", validation="v.tsv", test="")
    source = open_pairs(reread).train[0]
    for changed in (rows[:49], [*rows, "a\tb\n"]):
        marks = np.zeros(50)
        (tmp_path / "t.tsv").write_text("".join(changed))
        with pytest.raises(UserError, match=r"t\.tsv changed while it was read"):
            list(cache.read_again(source.name, source.pairs(), marks))


def test_pairs_of_an_older_version_open(packed: PackedPairs, tmp_path: Path) -> None:
    folder = shutil.copytree(packed.folder, tmp_path / "old")
    manifest = {key: value for key, value in packed.manifest.items() if key != "files"}
    sealed.seal(folder, {**manifest, "format": 2})
    assert PackedPairs.open(folder).texts("test") == packed.texts("test")


def test_rows_that_are_not_there_are_said_so(packed: PackedPairs, tmp_path: Path) -> None:
    folder = shutil.copytree(packed.folder, tmp_path / "copy")
    manifest = {key: value for key, value in packed.manifest.items() if key != "files"}
    sources = [{k: v for k, v in source.items() if k != "rows"} for source in manifest["sources"]]
    sealed.seal(folder, {**manifest, "sources": sources})
    with pytest.raises(UserError, match="sources: each needs the number of its rows"):
        PackedPairs.open(folder)
    del manifest["row_shape"]
    sealed.seal(folder, {**manifest, "sources": sources})
    with pytest.raises(UserError, match="not packed into rows, and the config has data.packing"):
        PackedPairs.open(folder).row_shape()


def test_the_same_pairs_anywhere_are_the_same_data(
    config: PairsConfig, packed: PackedPairs, tmp_path
) -> None:
    moved = dataclasses.replace(config, dir=str(write_pairs(tmp_path)))
    assert prepare_pairs(moved, VOCAB, QUIET).folder == packed.folder
    other = dataclasses.replace(moved, train="one.tsv=1,two.tsv.gz=2")
    assert prepare_pairs(other, VOCAB, QUIET).manifest["identity"] != packed.manifest["identity"]


def test_a_damaged_file_is_named(config: PairsConfig, tmp_path: Path) -> None:
    packed = prepare_pairs(dataclasses.replace(config, cache_dir=str(tmp_path)), VOCAB, QUIET)
    path = packed.folder / "train.target.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.target\.bin"):
        PackedPairs.open(packed.folder)


def test_pairs_of_another_format_are_refused(packed: PackedPairs, monkeypatch) -> None:
    """Their shapes, for one, had another order: a pair might have been cut silently."""
    monkeypatch.setattr(PackedPairs, "formats", (1, 2))
    with pytest.raises(UserError, match="data in format 4, which this version does not read"):
        PackedPairs.open(packed.folder)


def test_what_is_too_long_is_dropped_from_training_and_cut_elsewhere(tmp_path: Path) -> None:
    long = " ".join(["layer"] * 100)
    lines = [*sentence_pairs(50), (long, long.replace("l", "k"))]
    (tmp_path / "t.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in lines))
    (tmp_path / "v.tsv").write_text(f"{long} x\t{long}\na b\tc d\n")
    config = PairsConfig(
        train="t.tsv", validation="v.tsv", test="", dir=str(tmp_path), sequence_length=80,
        cache_dir=str(tmp_path / "cache"),
    )  # fmt: skip
    packed = prepare_pairs(config, 300, QUIET)
    assert packed.manifest["sources"][0]["left out"]["too long"] == 1
    assert packed.manifest["truncated"] == {"v": 1}
    assert packed.pairs("train").lengths.max() <= 80
    cut = packed.pairs("v")
    assert cut.lengths[0].tolist() == [80, 80]
    assert cut.source_ids[79] == 1
    assert packed.texts("v")[0] == (f"{long} x", long)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a fine day today", "une belle journée", "kept"),
        ("", "rien", "empty"),
        ("nothing", "  ", "empty"),
        ("yes", "oui monsieur", "kept"),
        ("a short one", "une phrase qui est bien plus longue que l'autre", "ratio"),
        ("this was never translated at all", "This was never translated at all", "same language"),
        ("this was never translated at all", "this was never translated here", "same language"),
        ("Paris Texas", "Paris Texas", "kept"),  # a name
    ],
)
def test_what_is_left_out(source: str, target: str, reason: str) -> None:
    assert cleaning.REASONS[cleaning.verdict(source, target, 2.0)] == reason
    assert cleaning.verdict(source, target, 2.0) == cleaning.verdict(target, source, 2.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": "none.tsv"}, r"there is no none\.tsv"),
        ({"train": "one.tsv=0.5,two.tsv.gz"}, "give all or none"),
        ({"train": "one.tsv=many"}, "the share of one.tsv is 'many'"),
        ({"train": "one.tsv=-1"}, "not a positive number"),
        ({"test": "test.tsv=1"}, "shares are for data.train"),
        ({"test": "validation.tsv"}, "two sets to evaluate on are called validation"),
        ({"validation": "train.tsv"}, "is called train, which is the name of a set"),
        ({"train": "wmt14_translate/fr-en:train"}, "is not prepared"),
        ({"dir": None}, r"data\.dir is not set"),
        ({"train": "broken.tsv"}, r"broken\.tsv line 2 has 1 cell"),
        ({"train": "german.tsv"}, r"german\.tsv line 1 has the columns en, de, not en and fr"),
        ({"train": "one.tsv=1,=2"}, "'=2' names no source"),
        ({"train": "one.tsv=1,one.tsv=1"}, r"none of the 300 pairs of one\.tsv is left .*duplicate"),
        (
            {"train": "validation.tsv"},
            r"no pair is left to train on of 60 of validation\.tsv .*evaluation set 60",
        ),
    ],
)
def test_wrong_sources_are_refused(config: PairsConfig, folder: Path, change: dict, words: str) -> None:
    (folder / "train.tsv").write_text("a\tb\n")
    (folder / "broken.tsv").write_text("a\tb\nno tab here\n")
    (folder / "german.tsv").write_text("\ufeffen\tde\na\tb\n")
    with pytest.raises(UserError, match=words):
        prepare_pairs(dataclasses.replace(config, **change), VOCAB, QUIET)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([text for pair in sentence_pairs(200) for text in pair], VOCAB, TRANSLATION)


@given(st.text())
def test_any_line_survives_the_tokenizer(tokenizer, line: str) -> None:
    (ids,) = encode_lines(tokenizer, [line], np.dtype(np.uint16), TRANSLATION)
    assert ids[-1] == 1
    assert not set(ids[:-1].tolist()) & {0, 1, 2}
    assert tokenizer.decode(ids[:-1].tolist()) == line


def test_the_tokenizer_has_the_size_and_the_layout_asked_for(tokenizer, tmp_path: Path) -> None:
    assert tokenizer.get_vocab_size() == VOCAB
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    tokenizer.save(str(tmp_path / "t.json"))
    assert load_tokenizer(tmp_path / "t.json", VOCAB, TRANSLATION).encode("a layer").ids
    with pytest.raises(UserError, match="does not say which token is for the beginning"):
        load_tokenizer(tmp_path / "t.json", VOCAB)


def test_message_catalogues() -> None:
    files = catalogue_files("en", "fr")
    pairs = dict(read_catalogues(files, "fr"))
    assert len(pairs) > 5000
    assert pairs["Germany"] == "Allemagne"
    assert all(os.linesep not in text for pair in pairs.items() for text in pair)


@pytest.mark.parametrize("target", ["../fr", "/fr", "fr/**", "*", ""])
def test_a_language_is_no_path(target: str) -> None:
    with pytest.raises(UserError, match=r"data\.target is .* not the name of a language"):
        catalogue_files("en", target)


def test_a_damaged_catalogue_is_named(tmp_path: Path) -> None:
    (tmp_path / "django.mo").write_bytes(b"\xde\x12\x04\x95 and no more")
    with pytest.raises(UserError, match=r"django\.mo cannot be read"):
        list(read_catalogues({"django.mo": epath.Path(tmp_path / "django.mo")}, "fr"))


def test_catalogues_translate_from_english() -> None:
    with pytest.raises(UserError, match="from English"):
        open_pairs(PairsConfig(train="catalogues", source="de", validation="", test=""))
