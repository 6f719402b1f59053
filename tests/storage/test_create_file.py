"""A file that several processes want to create: one of them does, and it is whole."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tlc_jax.storage.paths import create_file


def test_one_of_many_creates_it_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path, texts = tmp_path / "new" / "item.json", [f"{number}\n" * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda text: create_file(path, text), texts))
    assert created.count(True) == 1
    assert path.read_text() == texts[created.index(True)]
    assert [other.name for other in path.parent.iterdir()] == ["item.json"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    assert create_file(tmp_path / "item.json", "first")
    assert not create_file(tmp_path / "item.json", "second")
    assert (tmp_path / "item.json").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1
