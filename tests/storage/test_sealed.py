"""Sealed folders: any change of any file, the manifest's own included, is noticed and named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.storage.sealed import MANIFEST, Damaged, is_sealed, open_sealed, seal

FILES = {"a.bin": b"\x00" * 70, "params/d/one": b"weights", "params/two": b"", "optimizer/three": b"moments"}


def make(root: Path) -> Path:
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    seal(root, {"step": 3, "names": ("x", "y")})
    return root


def test_what_was_sealed_comes_back(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    assert is_sealed(folder)
    for same in (folder, epath.Path(folder)):
        manifest = open_sealed(same)
        assert (manifest["step"], manifest["names"]) == (3, ["x", "y"])
        assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {
            name: len(content) for name, content in FILES.items()
        }
    assert not is_sealed(tmp_path)


@pytest.fixture(scope="module")
def sealed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("sealed") / "a")


@given(data=st.data())
def test_every_flipped_bit_is_noticed(sealed_folder: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name, content in FILES.items() if content] + [MANIFEST]))
    path = sealed_folder / name
    content = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
    try:
        with pytest.raises(Damaged) as caught:
            open_sealed(sealed_folder)
    finally:
        path.write_bytes(content)
    assert caught.value.path.name == path.name
    open_sealed(sealed_folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(Damaged, match=name):
        open_sealed(folder)


def test_a_part_opens_without_the_rest(tmp_path: Path) -> None:
    """A laptop needs the parameters only."""
    folder = make(tmp_path / "a")
    shutil.rmtree(folder / "optimizer")
    assert open_sealed(folder, "params/")["step"] == 3
    with pytest.raises(Damaged, match="optimizer/three is missing"):
        open_sealed(folder)
    (folder / "params" / "two").write_bytes(b"more")
    with pytest.raises(Damaged, match="params/two has 4 bytes instead of 0"):
        open_sealed(folder, "params/")
