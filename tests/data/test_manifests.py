"""Untrusted prepared examples and pairs: sealed again, so that every digest is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.builders import documents, write_pairs, write_tables
from tlc_jax.config import DataConfig, PairsConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.labelled.example_packing import prepare_examples
from tlc_jax.data.labelled.packed_examples import PackedExamples
from tlc_jax.data.pairs.packed_pairs import PackedPairs
from tlc_jax.data.pairs.pair_packing import prepare_pairs
from tlc_jax.data.tokenizer import train_tokenizer
from tlc_jax.storage import sealed

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    train_tokenizer(documents(60), 300).save(str(root / "tokenizer.json"))
    config = DataConfig(
        dir=str(write_tables(root / "tables", 60)), tokenizer=str(root / "tokenizer.json"),
        sequence_length=32, held_out=0.2, cache_dir=str(root / "cache"),
    )  # fmt: skip
    return prepare_examples(config, 300, QUIET).folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    config = PairsConfig(
        train="one.tsv", validation="validation.tsv", test="test.tsv", dir=str(write_pairs(root)),
        sequence_length=40, cache_dir=str(root / "cache"),
    )  # fmt: skip
    return prepare_pairs(config, 300, QUIET).folder


def forged(folder: Path, copy: Path, change: Callable[[dict[str, Any], Path], None]) -> Path:
    """A copy in which `change` was made to the manifest or the files, sealed as if nothing had been."""
    shutil.copytree(folder, copy)
    for path in copy.iterdir():
        path.chmod(0o644)
    manifest = sealed.open_sealed(copy)
    del manifest["files"]
    change(manifest, copy)
    sealed.seal(copy, manifest)
    return copy


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any], Path], None]:
    def change(manifest: dict[str, Any], _: Path) -> None:
        node: Any = manifest
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


def save(name: str, array: np.ndarray, pickle: bool = False) -> Callable[[dict[str, Any], Path], None]:
    return lambda _, folder: np.save(folder / name, array, allow_pickle=pickle)


def edit(name: str, edited: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any], Path], None]:
    return lambda _, folder: np.save(folder / name, edited(np.load(folder / name)))


def declare(name: str, shape: str) -> Callable[[dict[str, Any], Path], None]:
    """An array whose header says that it is far larger than it is."""

    def change(_: dict[str, Any], folder: Path) -> None:
        content = (folder / name).read_bytes()
        length = int.from_bytes(content[8:10], "little")
        header = content[10 : 10 + length].decode()
        start = header.index("'shape': ")
        longer = header[:start] + f"'shape': {shape}, }}"
        longer = longer.ljust(length - 1) + "\n"
        (folder / name).write_bytes(content[:8] + len(longer).to_bytes(2, "little") + longer.encode())

    return change


def write(name: str, content: bytes) -> Callable[[dict[str, Any], Path], None]:
    def change(_: dict[str, Any], folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


WRONG_EXAMPLES = {
    "no labels": (put("label_names", value=None), "label_names"),
    "one label": (put("label_names", value=["a"]), "label_names"),
    "labels twice": (put("label_names", value=["a", "a"]), "label_names: they must be printable and differ"),
    "escape in a label": (put("label_names", 0, value="\x1b[2J"), "label_names"),
    "fewer labels": (put("label_names", value=["a"] * 0), "label_names"),
    "many labels": (put("label_names", value=["a"] * 200_000), "label_names"),
    "long label": (put("label_names", 0, value="a" * 10_000), "label_names"),
    "later format": (put("format", value=99), "data in format 99, which this version"),
    "text as size": (put("examples", "test", value="51"), "examples/test"),
    "negative size": (put("examples", "test", value=-1), "examples/test"),
    "huge size": (put("examples", "test", value=10**15), r"test\.offsets\.npy holds"),
    "other size": (put("examples", "test", value=50), r"test\.offsets\.npy holds"),
    "unknown set": (put("examples", "x", value=1), "examples: its sets are"),
    "path as set": (put("examples", "../x", value=1), "not a plain name"),
    "reported nothing": (put("reported", value=["x"]), "examples: its sets are"),
    "length": (put("sequence_length", value=8), "a row has .* sequence_length is 8"),
    "vocabulary": (put("vocab_size", value=50), "is not below vocab_size 50"),
    "no number": (put("baselines", "test", "linear_accuracy", value="much"), "baselines"),
    "objects": (save("test.ids.npy", np.array([{}], object), True), r"test\.ids\.npy is not a .npy array"),
    "floats": (edit("test.ids.npy", lambda x: x.astype("f4")), r"test\.ids\.npy holds float32"),
    "two axes": (edit("test.ids.npy", lambda x: x[None]), r"test\.ids\.npy holds uint16 \[1, "),
    "int64 labels": (edit("test.labels.npy", lambda x: x.astype("i8")), r"test\.labels\.npy holds int64"),
    "label too large": (edit("test.labels.npy", lambda x: x + 1), "test: its labels are not from 0 to 1"),
    "label below": (edit("test.labels.npy", lambda x: x - 1), "test: its labels are not from 0 to 1"),
    "offsets fall": (edit("test.offsets.npy", lambda x: x[::-1].copy()), "do not cut"),
    "offsets beyond": (edit("test.offsets.npy", lambda x: x * 2), "do not cut"),
    "more than there": (declare("test.labels.npy", "(10**12,)".replace("10**12", str(10**12))), "labels.npy"),
    "negative shape": (declare("test.labels.npy", "(-51,)"), "labels.npy"),
    "enormous shape": (declare("test.labels.npy", f"({10**30},)"), "labels.npy"),
    "no header": (write("test.labels.npy", b"\x93NUMPY\x01\x00\x10\x00{((((((((("), "labels.npy is not"),
    "a pickle": (write("test.labels.npy", b"cos\nsystem\n(S'true'\ntR."), r"test\.labels\.npy is not a"),
    "an archive": (write("test.labels.npy", b"PK\x03\x04 and more"), r"test\.labels\.npy is not a"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_EXAMPLES)
def test_examples_of_a_stranger(name: str, examples: Path, tmp_path: Path) -> None:
    change, says = WRONG_EXAMPLES[name]
    with pytest.raises(UserError, match=says) as caught:
        PackedExamples.open(forged(examples, tmp_path / "copy", change))
    assert str(tmp_path) in str(caught.value)


def test_a_baseline_of_a_stranger(examples: Path, tmp_path: Path) -> None:
    copy = forged(examples, tmp_path / "copy", edit("test.linear.npy", lambda x: x + 7))
    with pytest.raises(UserError, match="labels are not from 0 to 1"):
        PackedExamples.open(copy).baseline("linear", "test")


WRONG_PAIRS = {
    "objects": (put("dtype", value="O"), "dtype: 'O' is none of uint16, uint32"),
    "huge items": (put("dtype", value="S1000000"), "is none of uint16, uint32"),
    "wider": (put("dtype", value="uint32"), "bytes, not those of"),
    "format as text": (put("format", value="3"), "in format 3"),
    "no shapes": (put("shapes", value=[]), "shapes"),
    "shapes of three": (put("shapes", 0, value=[1, 2, 3]), "shapes"),
    "short shapes": (put("shapes", 0, value=[8, 8]), "the first must hold 40 ids"),
    "endless shapes": (put("shapes", 0, value=[40, 2**31]), "shapes"),
    "tokens": (put("tokens", "test", "source", value=10**14), r"test\.source\.bin has .* bytes"),
    "no side": (put("tokens", "test", value={}), "tokens: each set needs those of source and target"),
    "pairs": (put("pairs", "test", value=10**14), r"test\.source\.offsets\.npy holds"),
    "train": (put("sources", 0, "pairs", value=5), "sources: their pairs are not the"),
    "share": (put("sources", 0, "share", value=-1.0), "sources/0/share"),
    "path": (put("validation", value=["../../x"]), "pairs: its sets are"),
    "language": (put("languages", value=["en"]), "languages"),
    "ids": (put("vocab_size", value=20), "is not below vocab_size 20"),
    "offsets": (edit("test.target.offsets.npy", lambda x: x[::-1].copy()), "do not cut"),
    "text as offsets": (save("test.target.offsets.npy", np.array(["a"] * 61)), "offsets.npy holds"),
}


@pytest.mark.parametrize("name", WRONG_PAIRS)
def test_pairs_of_a_stranger(name: str, pairs: Path, tmp_path: Path) -> None:
    change, says = WRONG_PAIRS[name]
    with pytest.raises(UserError, match=says) as caught:
        PackedPairs.open(forged(pairs, tmp_path / "copy", change))
    assert str(tmp_path) in str(caught.value)


def test_lines_of_a_stranger(pairs: Path, tmp_path: Path) -> None:
    copy = forged(pairs, tmp_path / "copy", write("test.source.txt", b"one line\n"))
    with pytest.raises(UserError, match="test: there are"):
        PackedPairs.open(copy).texts("test")
    copy = forged(pairs, tmp_path / "other", write("test.source.txt", b"\xff\n" * 60))
    with pytest.raises(UserError, match="utf-8"):
        PackedPairs.open(copy).texts("test")


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(-1e300, 1e300), st.text(max_size=5),
    st.just([]), st.just({}),
    st.just("../x"), st.just(10**18), st.just([["a"]]),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_change_of_a_field_opens_or_is_a_sentence(
    data: st.DataObject, examples: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for folder, kind in ((examples, PackedExamples), (pairs, PackedPairs)):

        def change(manifest: dict[str, Any], _: Path) -> None:
            node: Any = manifest
            key = data.draw(st.sampled_from(sorted(node)))
            while isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
                node = node[key]
                key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            node[key] = data.draw(ODD)

        copy = forged(folder, tmp_path_factory.mktemp("odd") / "copy", change)
        try:
            data_set = kind.open(copy)
        except UserError:
            continue
        for name in data_set.manifest["pairs" if kind is PackedPairs else "examples"]:
            data_set.pairs(name) if kind is PackedPairs else data_set.split(name)  # type: ignore[union-attr]
