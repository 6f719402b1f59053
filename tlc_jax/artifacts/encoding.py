"""Compressed tensors as named arrays and back: what is the same for every kind of leaf.

A leaf (core/leaf.py) says which arrays it is stored as; here its kind is found from the manifest entry, the
arrays are compared with what the entry declares, and with zstd the streams among them are compressed.
"""

from __future__ import annotations

import numpy as np
import pyarrow
from jaxtyping import UInt8

from tlc_jax.compression.methods import LEAVES
from tlc_jax.core.leaf import Entry, Leaf, Parts, Stream
from tlc_jax.core.native import abandonable

_ZSTD_LEVEL = 19


def encode(leaf: Leaf, zstd: bool) -> tuple[Entry, Parts]:
    """(manifest entry, arrays) of a leaf."""
    entry, parts = leaf.encode(zstd)
    if zstd:
        entry["zstd"] = True
        parts |= {name: _squeezed(parts[name]) for name in parts.keys() - leaf.unsqueezed}
    return entry, parts


def leaf_kind(entry: Entry) -> type[Leaf]:
    """The kind of leaf that a manifest entry describes; ValueError where there is none."""
    for kind in LEAVES:
        if kind.describes(entry):
            return kind
    raise ValueError(f"layout: {entry['layout']!r} with {entry['bits']} bits is none that this program reads")


def decode(entry: Entry, parts: Parts) -> Leaf:
    """The leaf that `encode` was called on.

    `entry` is a TensorEntry (manifest.py) whose numbers agree. ValueError where the parts are not those that
    it declares: what is there is compared with that before anything is made of it.
    """
    kind = leaf_kind(entry)
    streams = kind.streams(entry)
    if parts.keys() != streams.keys() | kind.unsqueezed:
        raise ValueError(f"its parts are {', '.join(sorted(parts)) or 'none'}")
    zstd = entry.get("zstd", False)
    return kind.decode(entry, parts | {n: _checked(parts[n], n, s, zstd) for n, s in streams.items()})


def _checked(part: np.ndarray, name: str, stream: Stream, zstd: bool) -> np.ndarray:
    """The elements of a stream, which is stored as it is or with zstd."""
    dtype = np.dtype(stream.dtype)
    if zstd:
        if part.dtype != np.uint8 or part.ndim != 1:
            raise ValueError(f"its {name} are {part.dtype} {part.shape} and no bytes")
        part = _expanded(part, stream.size * dtype.itemsize, name).view(dtype)
    if part.dtype != dtype or part.shape != (stream.size,):
        raise ValueError(f"its {name} are {part.dtype} {part.shape} and not {dtype} ({stream.size},)")
    return part


def _squeezed(part: np.ndarray) -> UInt8[np.ndarray, "bytes"]:
    codec, content = pyarrow.Codec("zstd", compression_level=_ZSTD_LEVEL), np.ascontiguousarray(part)
    squeezed = abandonable(lambda: codec.compress(content, asbytes=True))  # 2 MB take a second
    return np.frombuffer(squeezed, np.uint8)


def _expanded(part: UInt8[np.ndarray, "bytes"], size: int, name: str) -> UInt8[np.ndarray, "size"]:
    """The content of a zstd stream; ValueError where it does not have exactly `size` bytes."""
    try:
        content = pyarrow.Codec("zstd").decompress(np.ascontiguousarray(part), size, asbytes=True)
    except (OSError, ValueError) as error:  # pyarrow's are both
        raise ValueError(f"its {name} are no zstd of {size:,} bytes ({error})") from error
    if len(content) != size:
        raise ValueError(f"its {name} are zstd of {len(content):,} bytes and not of {size:,}")
    return np.frombuffer(content, np.uint8)
