"""Checks what Orbax has stored of a tree of arrays, without restoring it.

A checkpoint is sealed only after this check, since Orbax may skip a part of a save without an error. Nothing
is restored before it: shapes, types and chunks are compared with what is expected while they are text, since
tensorstore allocates whatever a file declares, and ends the process where it cannot.
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
from tlc_jax.core.printable import first_of, printable
from tlc_jax.core.schema import Count, NotRequired, TypedDict, checked, record
from tlc_jax.storage.paths import AnyPath, files
from tlc_jax.storage.sealed import Damaged
from tlc_jax.storage.untrusted import parse_json, read_json, size_of

_ABOUT = "_METADATA"
_SPARE = 64 << 20  # bytes that files may have beyond their arrays
_MASKS = "masks."

_Dimensions = Annotated[list[Count], Field(max_length=8)]


@record
class _Compressor(TypedDict):
    id: Literal["zstd"]


@record
class _Array(TypedDict):
    """How Zarr describes an array in chunks of one shape."""

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
    """ValueError where `folder` holds other arrays than those of the tree `like`, Damaged where they are not
    whole. All that a restore reads is checked, but no chunk is decoded."""
    check_files(folder, sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(like)))
    about = _read_about(folder)
    store = _Store(folder)
    expected = {_name(path): x for path, x in jax.tree_util.tree_flatten_with_path(like)[0]}
    if (stored := store.arrays.keys()) != expected.keys():
        verb, names = "lacks", expected.keys() - stored
        if not names:
            verb, names = "also holds", stored - expected.keys()
        raise ValueError(f"it {verb} {first_of(sorted(names))}")
    for name, x in expected.items():
        store.check(name, x.shape, np.dtype(x.dtype))
    kinds = {entry["value_metadata"]["value_type"] for entry in about["tree_metadata"].values()}
    if extra := kinds - {"jax.Array", "None"}:
        raise ValueError(f"it holds values of other kinds: {printable(sorted(extra))}")


def read_masks(folder: AnyPath, like: dict[str, Any]) -> dict[str, Bool[np.ndarray, "..."]]:
    """The masks, by path of their parameters, of the optimizer stored in `folder`, each of the shape of its
    parameter in `like`. ValueError for others, Damaged where they are not whole."""
    store, masks = _Store(folder), {}
    for name in sorted(name for name in store.arrays if name.startswith(_MASKS)):
        path = name.removeprefix(_MASKS)
        if path not in like:
            raise ValueError(f"it has a mask of {printable(path)}, but there is no such parameter")
        store.check(name, like[path].shape, np.dtype(bool))
        masks[path] = store.read(name)
    return masks


class _Store:
    """The arrays in a folder: how many chunks are stored of each, by name."""

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
            name, _, chunk = key.rpartition("/")
            self.arrays[name] = self.arrays.get(name, 0) + (chunk != ".zarray")

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        text = self._values.read(f"{name}/.zarray").result().value
        try:
            array = checked(parse_json(text.decode("utf-8")), _Array)
        except ValueError as error:
            raise ValueError(f"{name} is not described as Orbax describes arrays ({error})") from error
        if tuple(array["shape"]) != shape:
            raise ValueError(f"{name} has the shape {array['shape']} instead of {list(shape)}")
        if array["dtype"] not in (dtype.str, dtype.name):
            raise ValueError(f"{name} is of the type {printable(array['dtype'], 20)} instead of {dtype.name}")
        chunks = array["chunks"]
        if len(chunks) != len(shape) or any(
            not 0 < n <= max(of, 1) for n, of in zip(chunks, shape, strict=True)
        ):
            raise ValueError(f"{name} is stored in chunks of {chunks}, though its shape is {list(shape)}")
        count = math.prod(-(-of // n) for n, of in zip(chunks, shape, strict=True))
        if self.arrays[name] != count:
            raise Damaged(self._folder, f"holds {self.arrays[name]} of the {count} chunks of {name}")

    def read(self, name: str) -> np.ndarray:
        """An array that `check` has accepted."""
        spec = {"driver": "zarr", "kvstore": {**self._spec, "path": f"{name}/"}}
        try:
            return ts.open(spec).result().read().result()
        except (ValueError, OSError) as error:
            raise Damaged(self._folder, f"cannot be read ({one_line(error)})") from error


def check_files(folder: AnyPath, expected: int, inside: bool = True) -> None:
    """OSError where a file in `folder` (or `inside` its folders) is not a regular one, ValueError where they
    have far more bytes than their arrays, `expected`. In a bucket there is only one kind of object."""
    if not isinstance(folder, Path):
        return
    names = files(folder) if inside else [path.name for path in folder.iterdir() if not path.is_dir()]
    size = sum(size_of(folder / name) for name in names)
    if size > 2 * expected + _SPARE:
        raise ValueError(f"its files have {size:,} bytes, its arrays {expected:,}")


def _read_about(folder: AnyPath) -> _About:
    """Orbax's description of the tree, after a check of the other descriptions that it reads too."""
    path = folder / _ABOUT
    try:
        about = checked(read_json(path), _About)
        more = folder / "array_metadatas"
        for path in more.iterdir() if more.is_dir() else ():
            checked(read_json(path), dict[str, Any])
        return about
    except FileNotFoundError as error:
        raise Damaged(path, "is missing") from error
    except (OSError, ValueError) as error:
        raise Damaged(path, f"is not what Orbax writes ({one_line(error)})") from error


def _name(path: tuple[Any, ...]) -> str:
    """The name that Orbax gives to a leaf of a tree: `0.mu.encoder.token_embedding`."""
    names = [getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in path]
    return ".".join(str(name) for name in names)
