"""Prepared data on a full disk: the file is named, and nothing looks whole that is not. numpy's own `tofile`
leaves a shorter file and says nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.builders import documents, sentence_pairs
from tlc_jax.core.entry_point import explained
from tlc_jax.core.vocabulary import roberta_roles
from tlc_jax.data.labelled import example_packing
from tlc_jax.data.pairs.pair_packing import _Writer
from tlc_jax.data.text.text_packing import _RowWriter
from tlc_jax.data.tokenizer import TRANSLATION, train_tokenizer


def rows(path: Path) -> None:
    writer = _RowWriter(path, 8, np.dtype(np.uint16), roberta_roles(300))
    writer.write([np.arange(4, 20, dtype=np.uint16)])
    writer.close()


def many_rows(path: Path) -> None:
    writer = _RowWriter(path, 8, np.dtype(np.uint16), roberta_roles(300))
    writer.write([np.full(1_000_000, 4, np.uint16)])


def pairs(path: Path) -> None:
    tokenizer = train_tokenizer(documents(50), 300, TRANSLATION)
    writer = _Writer(path.parent, "train", tokenizer, 80)
    with writer:
        writer.write(sentence_pairs(20), drop=True)


def arrays(path: Path) -> None:
    example_packing._save(path, np.zeros(1_000_000, np.int32))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (rows, "train.bin"),
        (many_rows, "train.bin"),
        (pairs, "train.source.bin"),
        (pairs, "train.target.bin"),
        (arrays, "train.ids.npy"),
    ],
)
def test_what_cannot_be_written_is_named(write: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write(path)
    assert f"{path} cannot be read or written (No space left on device): free some space" in str(
        explained(caught.value)
    )
