"""Packed text: what is in the rows, what is held out, and that damage is refused by name."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests import forging
from tests.builders import documents
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import BOS, EOS, PAD, roberta_roles
from tlc_jax.data import cache
from tlc_jax.data.text import text_packing
from tlc_jax.data.text.packed_text import SPLITS, PackedText
from tlc_jax.data.text.text_packing import prepare_text

VOCAB, LENGTH = 300, 16
QUIET = Console(quiet=True)


def pack(source: Path, cache: Path, **fields) -> PackedText:
    config = DataConfig(
        dir=str(source), cache_dir=str(cache), sequence_length=LENGTH, **{"held_out": 0.1} | fields
    )
    return prepare_text(config, VOCAB, QUIET)


@pytest.fixture(scope="module")
def packed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedText:
    return pack(corpus, tmp_path_factory.mktemp("cache"))


def running_text(packed: PackedText, split: str) -> list[int]:
    body = np.asarray(packed.rows(split))[:, 1:].reshape(-1)
    return body[body != PAD].tolist()


def held(packed: PackedText, split: str) -> list[str]:
    """The documents of a split, decoded: lines end with </s>, documents with an empty line."""
    tokenizer = packed.tokenizer()
    lines: list[list[int]] = [[]]
    for i in running_text(packed, split):
        if i == EOS:
            lines.append([])
        else:
            lines[-1].append(i)
    text = "\n".join(tokenizer.decode(line) for line in lines)
    return text.rstrip("\n").split("\n\n")


def test_rows_hold_every_document_once(packed: PackedText) -> None:
    kept = []
    for split in SPLITS:
        rows = packed.rows(split)
        assert (rows[:, 0] == BOS).all()
        assert rows.shape[1] == LENGTH
        assert (rows[:-1] != PAD).all(), "only the last row is filled up"
        ids = running_text(packed, split)
        assert len(ids) == packed.manifest["tokens"][split]
        assert ids[-2:] == [EOS, EOS]
        split_documents = held(packed, split)
        assert len(split_documents) == packed.manifest["documents"][split]
        kept += split_documents
    assert sorted(kept) == sorted(documents(400))
    assert packed.manifest["documents"]["held_out"] == 40


def test_documents_that_occur_twice_are_kept_once(corpus: Path, packed: PackedText, tmp_path: Path) -> None:
    double = shutil.copytree(corpus, tmp_path / "double")
    shutil.copy(double / "one.txt", double / "zero.txt")
    again = pack(double, tmp_path)
    assert again.manifest["documents"] == {"read": 533, "duplicates": 133, "train": 360, "held_out": 40}
    assert again.manifest["tokens"] == packed.manifest["tokens"]


def test_held_out_documents_stay_when_text_is_added(packed: PackedText, tmp_path: Path) -> None:
    """Chosen by hash: a document does not change sides because of its neighbours' order."""
    (tmp_path / "a.txt").write_text("\n\n".join(reversed(documents(400))))
    other = pack(tmp_path, tmp_path, tokenizer=str(packed.folder / "tokenizer.json"))
    ours, theirs = (set(held(p, "held_out")) for p in (packed, other))
    assert ours == theirs
    assert set(held(pack(tmp_path, tmp_path, seed=1), "held_out")) != ours


def test_the_cache_is_by_content(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(corpus, tmp_path)
    moved = shutil.copytree(corpus, tmp_path / "elsewhere")
    monkeypatch.setattr(text_packing, "_pack", lambda *_: pytest.fail("packed again"))
    assert pack(moved, tmp_path).manifest == first.manifest
    monkeypatch.undo()
    assert pack(corpus, tmp_path, held_out=0.2).folder != first.folder
    assert not list(tmp_path.glob("*.tmp"))


def keep(packed: PackedText, folder: Path) -> PackedText:
    cache.keep(packed, folder)
    return PackedText.open(folder)


def test_a_run_keeps_its_files_when_the_cache_goes(corpus: Path, tmp_path: Path) -> None:
    first = pack(corpus, tmp_path / "cache")
    kept = keep(first, tmp_path / "run" / "data")
    shutil.rmtree(tmp_path / "cache")
    np.testing.assert_array_equal(kept.rows("train"), PackedText.open(kept.folder).rows("train"))


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    path.unlink()  # the original may be hard-linked
    if how == "cut":
        path.write_bytes(content[:-1])
    elif how == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["train.bin", "held_out.bin", "tokenizer.json"])
@pytest.mark.parametrize(
    ("how", "says"), [("cut", "bytes instead of"), ("flip", "SHA-256"), ("gone", "missing")]
)
def test_damage_is_refused_by_name(
    packed: PackedText, tmp_path: Path, name: str, how: str, says: str
) -> None:
    kept = keep(packed, tmp_path / "data")
    damage(kept.folder / name, how)
    with pytest.raises(UserError, match=rf"{name} .*{says}"):
        PackedText.open(kept.folder)


def test_a_broken_manifest_is_refused(packed: PackedText, tmp_path: Path) -> None:
    kept = keep(packed, tmp_path / "data")
    damage(kept.folder / "manifest.json", "cut")
    (kept.folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest.json cannot be read"):
        PackedText.open(kept.folder)


def test_too_little_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one line\nand another, no blank line between\n")
    with pytest.raises(UserError, match="holds 1 document"):
        pack(tmp_path, tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir()), "nothing half-made is left"


def test_manifest_tells_its_story(packed: PackedText) -> None:
    manifest = json.loads((packed.folder / "manifest.json").read_text())
    assert {"identity", "origin", "seed", "tokenizer_sha256", "files"} <= manifest.keys()
    assert manifest["origin"]["kind"] == "files"


def test_wide_vocabularies_take_32_bits(tmp_path: Path) -> None:
    writer = text_packing._RowWriter(tmp_path / "x.bin", 4, np.dtype(np.uint32), roberta_roles(VOCAB))
    writer.write([np.array([70_000, 5], np.uint32), np.array([6, 7], np.uint32)])
    writer.close()
    rows = np.fromfile(tmp_path / "x.bin", np.uint32).reshape(-1, 4)
    assert rows.tolist() == [[BOS, 70_000, 5, 6], [BOS, 7, PAD, PAD]]
    assert (writer.rows, writer.tokens) == (2, 4)


def forge(packed: PackedText, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The same data with another manifest, whose digest is right."""
    cache.keep(packed, folder)
    manifest = copy.deepcopy(packed.manifest)
    change(manifest)
    (folder / "manifest.json").unlink()
    forging.sign(folder, manifest)
    return folder


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("dtype", "O", "dtype: 'O' is none of uint16, uint32"),
        ("dtype", "uint32", "train.bin has .* bytes, not those of"),
        ("dtype", ["uint16"], "dtype: .*string"),
        ("rows", {"train": 10**12, "held_out": 1}, "train.bin has .* bytes, not those of"),
        ("rows", {"train": 0, "held_out": 1}, "rows/train: .*greater than or equal to 1"),
        ("rows", {"train": 1.5, "held_out": 1}, "rows/train: .*integer"),
        ("rows", {"train": -1, "held_out": 1}, "rows/train"),
        ("rows", {"train": 1}, "rows/held_out: field required"),
        ("rows", None, "rows: "),
        ("sequence_length", 10**18, "sequence_length: "),
        ("sequence_length", "16", "sequence_length: .*integer"),
        ("vocab_size", 5, "the id .* is not below vocab_size 5"),
        ("format", 99, "data in format 99, which this version does not read"),
        ("format", True, "format: "),
        ("tokens", {"train": "many", "held_out": 1}, "tokens/train"),
        ("documents", [], "documents: "),
        ("source", 3, "source: "),
        ("identity", "../../../etc", "identity: "),
    ],
)
def test_a_strangers_manifest_is_refused_by_its_field(
    packed: PackedText, tmp_path: Path, field: str, value: object, says: str
) -> None:
    folder = forge(packed, tmp_path / "data", lambda manifest: manifest.update({field: value}))
    with pytest.raises(UserError, match=rf"(?s)manifest.json .*{says}"):
        PackedText.open(folder)


def test_data_of_version_2_open(packed: PackedText, tmp_path: Path) -> None:
    def older(manifest: dict[str, Any]) -> None:
        del manifest["unknown"]
        manifest["format"] = 2

    again = PackedText.open(forge(packed, tmp_path / "data", older))
    np.testing.assert_array_equal(again.rows("train"), packed.rows("train"))


def test_text_that_changes_while_it_is_packed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More documents than before, or other ones: no cache is filled with what has another identity."""
    path = tmp_path / "text" / "a.txt"
    path.parent.mkdir()
    texts = documents(30)
    train = text_packing._train_tokenizer
    for changed in (texts[:-1], [*texts, "one more"], [text.replace("e", "o") for text in texts]):
        path.write_text("\n\n".join(texts), encoding="utf-8")

        def meanwhile(*given: Any, changed: list[str] = changed) -> Any:
            tokenizer = train(*given)
            path.write_text("\n\n".join(changed), encoding="utf-8")
            os.utime(path, (1, 1))
            return tokenizer

        monkeypatch.setattr(text_packing, "_train_tokenizer", meanwhile)
        with pytest.raises(UserError, match=r"under .*text changed while it was read: run the same command"):
            pack(path.parent, tmp_path / "cache")
        assert not any((tmp_path / "cache").iterdir())


def test_a_full_disk_while_packing_is_told_by_the_path(tmp_path: Path) -> None:
    """/dev/full takes no byte; numpy's own error names no file."""
    writer = text_packing._RowWriter(tmp_path / "train.bin", 16, np.dtype(np.uint16), roberta_roles(VOCAB))
    with Path("/dev/full").open("wb", buffering=0) as writer._file, pytest.raises(OSError) as caught:  # noqa: PT011
        writer.write([np.arange(3000, dtype=np.uint16)])
    assert caught.value.filename == str(tmp_path / "train.bin")


def test_what_is_left_out_is_told_from_the_cache_too(corpus: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(corpus, tmp_path / "text")
    pack(folder, tmp_path / "cache")
    (folder / "notes.md").write_text("more", encoding="utf-8")
    console = Console(record=True, width=300)
    config = DataConfig(
        dir=str(folder), cache_dir=str(tmp_path / "cache"), sequence_length=LENGTH, held_out=0.1
    )
    assert prepare_text(config, VOCAB, console).manifest["documents"]["read"] == 400
    assert "left out: 1 of another kind (notes.md)" in console.export_text()


@pytest.mark.slow
def test_a_chunk_of_lines_does_not_wait_for_the_end_of_a_document(
    packed: PackedText, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_packing, "_CHUNK", 500)
    again = pack(corpus, tmp_path)
    for split in SPLITS:
        np.testing.assert_array_equal(again.rows(split), packed.rows(split))
