"""Checks of prepared data, whoever wrote them: types, names, arrays and their sizes, before anything is
allocated."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Integer
from pydantic import Field, StringConstraints

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.storage.sealed import MANIFEST
from tlc_jax.storage.untrusted import file_inside, is_plain_name, one_reason, size_of

Text = Annotated[str, StringConstraints(max_length=100_000)]
Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
SetNames = Annotated[list[str], Field(max_length=10_000)]
IDS = ("uint16", "uint32")


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Turn errors inside into a UserError that names the manifest or the file."""
    try:
        yield
    except (ValueError, OSError) as error:
        name = getattr(error, "filename", None) or folder / MANIFEST
        raise UserError(
            f"{printable(name, 1000)} does not fit prepared data ({one_reason(error)}): put back the files "
            "that belong there, or remove the folder to prepare the data again"
        ) from error


def check_set_names(manifest: dict[str, Any], field: str) -> None:
    """ValueError unless the keys of a field, which are parts of file names, are plain names."""
    for name in manifest[field]:
        if "/" in name or not is_plain_name(name):
            raise ValueError(f"{field}: '{printable(name)}' is not a plain name of a set")


def open_array(folder: Path, name: str, dtypes: Collection[str], size: int | None = None) -> np.ndarray:
    """A one-dimensional .npy file, memory-mapped; ValueError if it has another dtype, shape or size."""
    path = file_inside(folder, name)
    try:
        array = np.lib.format.open_memmap(path, mode="r", max_header_size=1000)
    except Exception as error:  # whatever numpy makes of a damaged header
        raise ValueError(f"{name} is not a .npy array: {one_reason(error)}") from error
    if array.dtype.name not in dtypes or array.ndim != 1 or size not in (None, len(array)):
        wanted = f"{' or '.join(dtypes)} [{'any' if size is None else size}]"
        raise ValueError(f"{name} holds {array.dtype.name} {list(array.shape)}, not {wanted}")
    return array


def id_dtype(vocab_size: int) -> np.dtype:
    """The smallest of the types in which ids are stored."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def open_ids(folder: Path, name: str, dtype: str, size: int) -> np.ndarray:
    """A flat file of `size` ids, memory-mapped; ValueError if it has another size."""
    if dtype not in IDS:
        raise ValueError(f"dtype: '{printable(dtype, 40)}' is none of {', '.join(IDS)}")
    path = file_inside(folder, name)
    if size_of(path) != size * np.dtype(dtype).itemsize:
        raise ValueError(f"{name} has {size_of(path):,} bytes, not those of {size:,} ids of {dtype}")
    return np.memmap(path, dtype, mode="r", shape=(size,)) if size else np.zeros(0, dtype)


def check_ids(
    name: str,
    ids: Integer[np.ndarray, "tokens"],
    offsets: Integer[np.ndarray, "rows_1"],
    vocab_size: int,
    longest: int,
) -> None:
    """ValueError unless the offsets cut the ids into consecutive rows of at most `longest` ids, and all ids
    are in the vocabulary."""
    lengths = np.diff(offsets)
    if offsets[0] != 0 or offsets[-1] != len(ids) or (len(lengths) and lengths.min() < 0):
        raise ValueError(f"{name}: its offsets do not cut its {len(ids):,} ids into rows")
    if len(lengths) and lengths.max() > longest:
        raise ValueError(f"{name}: a row has {lengths.max():,} ids, sequence_length is {longest:,}")
    if len(ids) and ids.max() >= vocab_size:
        raise ValueError(f"{name}: the id {ids.max():,} is not below vocab_size {vocab_size:,}")
