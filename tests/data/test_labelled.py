"""Labelled text from tables to ids: layout, truncation, splits by hash, baselines, refusals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.builders import documents, write_tables
from tlc_jax.config import DataConfig
from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted, UserError
from tlc_jax.core.vocabulary import BOS, EOS
from tlc_jax.data.labelled import doc_tasks, tfds_labelled
from tlc_jax.data.labelled.data_sets import open_labelled
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.data.labelled.example_rows import fit
from tlc_jax.data.labelled.labelled_source import NO_LABEL, Examples
from tlc_jax.data.labelled.linear import baselines
from tlc_jax.data.labelled.packed_examples import PackedExamples
from tlc_jax.data.tokenizer import load_tokenizer, train_tokenizer
from tlc_jax.storage import sealed

VOCAB = 300
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    root = tmp_path_factory.mktemp("labelled")
    train_tokenizer(documents(100), VOCAB).save(str(root / "tokenizer.json"))
    tables = write_tables(root / "tables")
    return DataConfig(
        dir=str(tables),
        tokenizer=str(root / "tokenizer.json"),
        sequence_length=32,
        held_out=0.1,
        cache_dir=str(root / "cache"),
    )


def test_layout_and_splits(config: DataConfig) -> None:
    packed = prepare_examples(config, VOCAB, QUIET)
    tokenizer = load_tokenizer(packed.folder / "tokenizer.json", VOCAB)
    assert packed.manifest["label_names"] == ["other", "same"]
    sizes = packed.manifest["examples"]
    assert sizes["train"] + sizes["tuning"] == 400
    assert 20 < sizes["tuning"] < 60
    assert sizes["test"] == 51
    source = open_labelled(config).read("test")
    split = packed.split("test")
    np.testing.assert_array_equal(split.labels, source.labels)
    for i, (one, two) in enumerate(source.texts):
        ids = split.ids[split.offsets[i] : split.offsets[i + 1]].tolist()
        assert len(ids) <= 32
        whole = tokenizer.encode(one, two).ids  # the template: <s> A </s></s> B </s>
        assert ids == whole or len(whole) > 32
        assert ids[0] == BOS
        assert ids.count(EOS) == 3
    texts = {name: set() for name in ("train", "tuning")}
    for name, rows in texts.items():
        part = packed.split(name)
        rows |= {tuple(part.ids[a:b].tolist()) for a, b in zip(part.offsets, part.offsets[1:], strict=False)}
    long = [row for row in texts["train"] & texts["tuning"] if len(row) < 32]
    assert not long, "a text that is tuned on is not trained on"


def test_no_phrase_that_is_tuned_on_stands_in_a_sentence_that_is_trained_on(
    config: DataConfig, tmp_path: Path
) -> None:
    """As in SST-2, whose training examples are phrases of sentences."""
    rng = np.random.default_rng(0)
    words = sorted({word for text in documents(50) for word in text.split()})
    rows = []
    for _ in range(60):
        sentence = rng.choice(words, 16).tolist()
        starts = rng.integers(0, 12, 5)
        rows += [sentence, *(sentence[start : start + 4 + int(rng.integers(8))] for start in starts)]
    table = (json.dumps({"text": " ".join(row), "label": str(i % 2)}) for i, row in enumerate(rows))
    (tmp_path / "train.jsonl").write_text("\n".join(table) + "\n")
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "anything", "label": "1"}) + "\n")
    packed = prepare_examples(dataclasses.replace(config, dir=str(tmp_path)), VOCAB, QUIET)
    tokenizer = load_tokenizer(packed.folder / "tokenizer.json", VOCAB)
    train, tuning = (
        [
            " ".join(tokenizer.decode(part.ids[a + 1 : b - 1].tolist()).split())
            for a, b in itertools.pairwise(part.offsets.tolist())
        ]
        for part in (packed.split("train"), packed.split("tuning"))
    )
    assert len(tuning) > 10
    assert not [text for text in tuning if any(f" {text} " in f" {other} " for other in train)]


def test_a_damaged_file_is_named(config: DataConfig, tmp_path: Path) -> None:
    packed = prepare_examples(config, VOCAB, QUIET)
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in packed.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    damaged = bytearray((folder / "test.labels.npy").read_bytes())
    damaged[-1] ^= 1
    (folder / "test.labels.npy").write_bytes(damaged)
    with pytest.raises(UserError, match=r"test\.labels\.npy was changed"):
        PackedExamples.open(folder)


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=2), length=st.integers(8, 50))
def test_the_longer_text_loses_its_end(sizes: list[int], length: int) -> None:
    parts = [list(range(100 * i, 100 * i + size)) for i, size in enumerate(sizes)]
    counts, room = [len(part) for part in parts], length - 2 * len(parts)
    kept = fit([list(part) for part in parts], room, fairseq=True)
    while sum(counts) > room:  # one token at a time, from the longer one
        counts[-1 if counts[-1] >= counts[0] and len(counts) > 1 else 0] -= 1
    for part, fitted, count in zip(parts, kept, counts, strict=True):
        assert fitted == part[: len(fitted)]
        assert abs(len(fitted) - count) <= 1
    assert sum(map(len, kept)) == sum(counts)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "needs train.tsv"),
        ({"v.tsv": "text\tlabel\na\tx\nb\ty\n"}, "needs train.tsv"),
        ({"train.tsv": "text\tlabel\na\tx\nb\tx\n", "v.tsv": "text\tlabel\na\tx\n"}, r"1 label, "),
        ({"train.jsonl": "{}", "train.tsv": ""}, "holds train twice"),
    ],
)
def test_refusals(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    def read() -> None:
        source = open_labelled(DataConfig(dir=str(tmp_path)))
        for split in ("train", *source.reported):
            source.read(split)

    with pytest.raises(UserError, match=says):
        read()


def test_unknown_tasks_are_named() -> None:
    with pytest.raises(UserError, match="glue/sst2"):
        open_labelled(DataConfig(name="glue/sst3"))


def test_baselines() -> None:
    """A word that decides, and a bigram that does: both are learnt; the majority is the larger class."""
    words = np.random.default_rng(0).choice(["a", "b", "c", "d"], (300, 6))
    texts = [(" ".join(row),) for row in words]
    decided = Examples(texts, [int("a b" in text[0]) for text in texts])
    predicted = baselines(decided, {"itself": decided})["itself"]
    assert (predicted["majority"] == 0).all()  # "a b" is in fewer than half of the texts
    assert np.mean(predicted["linear"] == decided.labels) > 0.98
    unlike = {"unlike": Examples([("b a",), ("a b",)], [1, 1])}
    assert baselines(decided, unlike)["unlike"]["linear"].tolist() == [0, 1]


def test_baselines_of_one_class_and_of_many() -> None:
    alone = Examples([("a b",), ("c d",)], [1, 1])
    predicted = baselines(alone, {"itself": alone})["itself"]
    assert predicted["linear"].tolist() == predicted["majority"].tolist() == [1, 1]


def test_fitting_is_left_behind_when_somebody_wants_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = Examples([("a b",), ("c d",)] * 5, [0, 1] * 5)

    def fit(self: object, *_: object) -> None:
        monkeypatch.setattr(stopping, "_requested", True)  # by a signal
        time.sleep(1)

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression.fit", fit)
    started = time.monotonic()
    with pytest.raises(Interrupted):
        baselines(examples, {"itself": examples})
    assert time.monotonic() - started < 0.9


@pytest.mark.parametrize("names", [("negative", "positive"), ("positive", "negative")])
def test_glues_test_set_is_predicted_only(
    names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its labels are -1, which is no class; a model may know the labels in another order."""
    (tmp_path / "label.labels.txt").write_text("negative\npositive\n")
    for split in ("train", "validation", "test"):
        (tmp_path / f"sst2-{split}.tfrecord").write_text(split)
    rows = {"train": [0, 1], "validation": [1], "test": [-1, -1]}

    def examples(folder: Path, split: str) -> list[dict]:
        return [{"sentence": b"a", "label": label} for label in rows[split]]

    monkeypatch.setattr(tfds_labelled, "tfds_folder", lambda *_: epath.Path(tmp_path))
    monkeypatch.setattr(tfds_labelled, "tfds_files", lambda name, _, split: {split: epath.Path(tmp_path)})
    monkeypatch.setattr(tfds_labelled, "tfds_examples", examples)
    config = DataConfig(name="glue/sst2")
    training = open_labelled(config)
    assert (training.reported, training.unlabelled) == (("validation",), ())
    assert "test" not in training.files
    source = open_labelled(config, names)
    assert (source.reported, source.unlabelled, source.label_names) == (("validation",), ("test",), names)
    assert source.read("test").labels == [NO_LABEL, NO_LABEL]
    assert source.read("train").labels == [names.index("negative"), names.index("positive")]
    with pytest.raises(UserError, match="the model has the classes a, b, but .* has the label negative"):
        open_labelled(config, ("a", "b"))
    rows["validation"] = [-1]
    with pytest.raises(UserError, match=r"example 0 of validation .* label -1, .* not one of the 2 classes"):
        training.read("validation")


def test_texts_with_two_labels_are_counted(config: DataConfig, tmp_path: Path) -> None:
    table = "text\tlabel\n" + "".join(f"{text}\t{'xy'[i % 2]}\n" for i, text in enumerate("abcdefgh" * 6))
    (tmp_path / "train.tsv").write_text(f"{table}a\ty\nb\tx\nb\tx\n")
    (tmp_path / "test.tsv").write_text("text\tlabel\nz\tx\nz\tx\n")
    packed = prepare_examples(dataclasses.replace(config, dir=str(tmp_path), held_out=0.5), VOCAB, QUIET)
    assert packed.manifest["contradicting"] == {"train": 2, "test": 0}


def test_examples_to_report_on_that_are_trained_on_too_are_counted(
    config: DataConfig, tmp_path: Path
) -> None:
    table = "text\tlabel\n" + "".join(f"{text}\t{'xy'[i % 2]}\n" for i, text in enumerate("abcdefgh" * 6))
    for name, rows in (("train", table), ("copy", table), ("other", "text\tlabel\na\tx\nz\tx\n")):
        (tmp_path / f"{name}.tsv").write_text(rows)
    packed = prepare_examples(dataclasses.replace(config, dir=str(tmp_path), held_out=0.5), VOCAB, QUIET)
    assert packed.manifest["trained_on"] == {"copy": 48, "other": 1}


def test_examples_of_an_older_version_open(config: DataConfig, tmp_path: Path) -> None:
    """Format 3 had no sets without labels, and no other metric than accuracy."""
    packed = prepare_examples(config, VOCAB, QUIET)
    folder = shutil.copytree(packed.folder, tmp_path / "old")
    new = {"unlabelled", "contradicting", "trained_on", "notes", "files", "metric"}
    sealed.seal(folder, {key: v for key, v in packed.manifest.items() if key not in new} | {"format": 3})
    old = PackedExamples.open(folder)
    assert old.unlabelled == ()
    assert old.metric == "accuracy"
    assert old.trains
    np.testing.assert_array_equal(old.split("test").ids, packed.split("test").ids)


@pytest.mark.slow
def test_documentation_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes balanced, package names masked, modules of the reported set apart, no sentence twice."""
    rng = np.random.default_rng(0)
    names = [f"word{i}" for i in range(200)]

    def sentence() -> str:
        return "The " + " ".join(rng.choice(names, 8)) + " of numpy and scipy."

    paths: dict[str, list[tuple[str, Path]]] = {}
    for package in doc_tasks.PACKAGES:
        paths[package] = []
        for number in range(30):
            body = "\n".join(
                f'def f{i}():\n    """{sentence()} {sentence()} {sentence()}"""\n' for i in range(3)
            )
            path = tmp_path / f"{package}_{number}.py"
            path.write_text(f'"""{"The same sentence is found in every module here."}"""\n{body}')
            paths[package].append((f"{package}/m{number}.py", path))
    monkeypatch.setattr(doc_tasks, "package_modules", lambda package: iter(paths[package]))
    for name, classes in (("docs/package", 2), ("docs/pair", 3)):
        source = open_labelled(DataConfig(name=name))
        train, reported = source.read("train"), source.read(*source.reported)
        assert len(source.label_names) == classes
        for split in (train, reported):
            counts = np.bincount(split.labels, minlength=classes)
            assert (counts == counts[0]).all()
            assert counts[0] > 3
            assert not any("numpy" in text or "scipy" in text for texts in split.texts for text in texts)
        sentences = [{text for texts in split.texts for text in texts} for split in (train, reported)]
        assert not sentences[0] & sentences[1]
        if classes == 2:
            assert len(sentences[0]) == len(train.texts)
