"""A safetensors file whose tensors are read a few at a time, and not kept in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tlc_jax.storage.paths import AnyPath
from tlc_jax.storage.untrusted import open_regular, read_bytes, size_of

UNREADABLE = (OSError, safetensors.SafetensorError, KeyError, ValueError, TypeError)
"""What is raised where a file is no whole safetensors file."""
FLOATS = ("F64", "F32", "F16", "BF16")
OTHERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
"""Types of tensors that are read."""
_LONGEST_HEADER = 32 << 20  # bytes; of a model of 400 tensors 50 kB
_MAPPED = 8 << 20  # bytes that are read before the file is opened again: pages that were read stay in memory


def check_header(path: AnyPath) -> None:
    """ValueError where the header is longer than that of any model."""
    with open_regular(path) as file:
        header = int.from_bytes(file.read(8), "little")
    if header > _LONGEST_HEADER:
        raise ValueError(f"its header has {header:,} bytes, and at most {_LONGEST_HEADER:,} are read")


def check_type(key: str, kind: str) -> None:
    """ValueError where numpy has no arrays of the type of a tensor, such as F4 or F8_E4M3."""
    if kind not in (*FLOATS, *OTHERS):
        raise ValueError(f"{key!r} has the type {kind}, of which numpy has no arrays")


class SafetensorsFile:
    """A regular file of at most `most` bytes; one in a bucket is kept as a whole."""

    def __init__(self, path: AnyPath, most: int):
        check_header(path)
        if size_of(path) > most:
            raise ValueError(f"it is larger than its {most:,} bytes")
        self._path, self._file, self._mapped = path, None, 0
        self._content = {} if isinstance(path, Path) else _arrays(read_bytes(path, most))
        self.keys: list[str] = list(self._opened().keys() if isinstance(path, Path) else self._content)

    def read(self, key: str) -> np.ndarray:
        """The array of a key."""
        if not isinstance(self._path, Path):
            return self._content[key]
        file = self._opened()
        check_type(key, file.get_slice(key).get_dtype())
        x = file.get_tensor(key)
        self._mapped += x.nbytes
        return x

    def _opened(self) -> Any:
        if self._file is None or self._mapped > _MAPPED:
            self._file, self._mapped = safetensors.safe_open(self._path, "numpy"), 0
        return self._file


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a whole file in memory."""
    for key, about in safetensors.deserialize(content):
        check_type(key, str(about["dtype"]))
    return safetensors.numpy.load(content)
