"""What Orbax has stored of a tree of arrays, looked at without restoring it.

A checkpoint is sealed only after this look: Orbax may skip a part of a save without an error. And nothing is
restored before it: what the files declare (shapes, types, pieces) is compared with what is expected while it
is text, since tensorstore allocates what it is told, and ends the process where that cannot be.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tensorstore as ts
from jaxtyping import Bool
from pydantic import Field

from tlc_jax.core.errors import one_line
from tlc_jax.core.printable import printable
from tlc_jax.core.schema import Count, NotRequired, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath, files
from tlc_jax.storage.sealed import Damaged
from tlc_jax.storage.untrusted import parse_json, read_json, size_of

_ABOUT = "_METADATA"
_SPARE = 64 << 20  # bytes of files beyond those of the arrays themselves
_MASKS = "masks."

_Dimensions = Annotated[list[Count], Field(max_length=8)]


@record
class _Compressor(TypedDict):
    id: Literal["zstd"]


@record
class _Array(TypedDict):
    """Zarr's own words for an array in pieces ("chunks") of one shape."""

    zarr_format: Literal[2]
    shape: _Dimensions
    chunks: _Dimensions
    dtype: str
    order: Literal["C"]
    filters: None
    compressor: _Compressor
    dimension_separator: NotRequired[Literal["."]]


@record
class _Value(TypedDict):
    value_type: str
    skip_deserialize: NotRequired[bool]


@record
class _Entry(TypedDict):
    value_metadata: _Value


@record
class _About(TypedDict):
    tree_metadata: dict[str, _Entry]
    use_ocdbt: NotRequired[Literal[True]]
    use_zarr3: NotRequired[Literal[False]]


def check_stored(folder: AnyPath, like: Any) -> None:
    """ValueError where `folder` holds other arrays than the tree `like` asks for, Damaged where they are not
    whole: everything that a restore reads is there, but that no piece is decoded."""
    check_files(folder, sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(like)))
    about = _read_about(folder)
    store = _Store(folder)
    expected = {_name(path): x for path, x in jax.tree_util.tree_flatten_with_path(like)[0]}
    if (stored := store.arrays.keys()) != expected.keys():
        words, names = "lacks", expected.keys() - stored
        if not names:
            words, names = "also holds", stored - expected.keys()
        raise ValueError(f"it {words} {', '.join(printable(name, 100) for name in sorted(names)[:5])}")
    for name, x in expected.items():
        store.check(name, x.shape, np.dtype(x.dtype))
    kinds = {(one["value_metadata"]["value_type"]) for one in about["tree_metadata"].values()}
    if extra := kinds - {"jax.Array", "None"}:
        raise ValueError(f"it holds values of other kinds: {printable(sorted(extra))}")


def read_masks(folder: AnyPath, like: dict[str, Any]) -> dict[str, Bool[np.ndarray, "..."]]:
    """Of the optimizer stored in `folder`, what it kept at zero, by the paths of parameters: each of the
    shape of its parameter in `like`. ValueError for others, Damaged where they are not whole."""
    store, found = _Store(folder), {}
    for name in sorted(name for name in store.arrays if name.startswith(_MASKS)):
        path = name.removeprefix(_MASKS)
        if path not in like:
            raise ValueError(f"it has a mask of {printable(path)}, but there is no such parameter")
        store.check(name, like[path].shape, np.dtype(bool))
        found[path] = store.read(name)
    return found


class _Store:
    """The arrays below a folder, by name, and how many pieces of each are there."""

    def __init__(self, folder: AnyPath):
        self._folder = folder
        base = {"driver": "file", "path": f"{folder}/"} if isinstance(folder, Path) else f"{folder}/"
        self._spec = {"driver": "ocdbt", "base": base}
        try:
            self._values = ts.KvStore.open(self._spec).result()
            keys = [key.decode("utf-8", "replace") for key in self._values.list().result()]
        except (ValueError, OSError) as error:
            raise Damaged(folder, f"cannot be read ({one_line(error)})") from error
        self.arrays: dict[str, int] = {}
        for key in keys:
            name, _, piece = key.rpartition("/")
            self.arrays[name] = self.arrays.get(name, 0) + (piece != ".zarray")

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        text = self._values.read(f"{name}/.zarray").result().value
        try:
            array = checked(parse_json(text.decode("utf-8")), _Array)
        except ValueError as error:
            raise ValueError(f"{name} is described in words that are not Orbax's ({error})") from error
        if tuple(array["shape"]) != shape:
            raise ValueError(f"{name} has the shape {array['shape']} instead of {list(shape)}")
        if array["dtype"] not in (dtype.str, dtype.name):
            raise ValueError(f"{name} is of the type {printable(array['dtype'], 20)} instead of {dtype.name}")
        chunks = array["chunks"]
        if len(chunks) != len(shape) or any(
            not 0 < n <= max(of, 1) for n, of in zip(chunks, shape, strict=True)
        ):
            raise ValueError(f"{name} is stored in pieces of {chunks}, though it has the shape {list(shape)}")
        pieces = math.prod(-(-of // n) for n, of in zip(chunks, shape, strict=True))
        if self.arrays[name] != pieces:
            raise Damaged(self._folder, f"holds {self.arrays[name]} of the {pieces} pieces of {name}")

    def read(self, name: str) -> np.ndarray:
        """An array that was checked."""
        spec = {"driver": "zarr", "kvstore": {**self._spec, "path": f"{name}/"}}
        try:
            return ts.open(spec).result().read().result()
        except (ValueError, OSError) as error:
            raise Damaged(self._folder, f"cannot be read ({one_line(error)})") from error


def check_files(folder: AnyPath, expected: int, inside: bool = True) -> None:
    """OSError where a file of `folder`, and of those `inside` it, is no regular one, ValueError where they
    have far more bytes than arrays of `expected` bytes. Objects in a bucket are of one kind only."""
    if not isinstance(folder, Path):
        return
    names = files(folder) if inside else [path.name for path in folder.iterdir() if not path.is_dir()]
    size = sum(size_of(folder / name) for name in names)
    if size > 2 * expected + _SPARE:
        raise ValueError(f"its files have {size:,} bytes, its arrays {expected:,}")


def _read_about(folder: AnyPath) -> _About:
    """Orbax's own description of the tree; its other descriptions, which it reads too, are looked at."""
    path = folder / _ABOUT
    try:
        about = checked(read_json(path), _About)
        others = (folder / "array_metadatas").iterdir() if (folder / "array_metadatas").is_dir() else ()
        for path in others:
            checked(read_json(path), dict[str, Any])
        return about
    except FileNotFoundError as error:
        raise Damaged(path, "is missing") from error
    except (OSError, ValueError) as error:
        raise Damaged(path, f"is not what Orbax writes ({one_line(error)})") from error


def _name(path: tuple[Any, ...]) -> str:
    """As Orbax names a leaf of a tree: `0.mu.encoder.token_embedding`."""
    names = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
    return ".".join(str(name) for name in names)
