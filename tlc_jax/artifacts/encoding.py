"""Compressed tensors as named arrays and back: what is the same for every kind of leaf.

A leaf (core/leaf.py) says which arrays it is stored as; here its kind is found from the manifest entry, the
arrays are compared with what the entry declares, and the streams among them are coded: compressed with brotli
or zstd. Why brotli: docs/architecture.md.
"""

from __future__ import annotations

import numpy as np
import pyarrow
from jaxtyping import UInt8

from tlc_jax.compression.methods import LEAVES
from tlc_jax.core.leaf import Entry, Leaf, Parts, Stream, coding_of
from tlc_jax.core.native import abandonable

_LEVELS = {"brotli": 11, "zstd": 19}


def encode(leaf: Leaf, coding: str) -> tuple[Entry, Parts]:
    """(manifest entry, arrays) of a leaf; `coding` is that of CompressConfig."""
    if coding == "plain":
        return leaf.encode(coded=False)
    entry, parts = leaf.encode(coded=True)
    entry |= {"zstd": True} if coding == "zstd" else {"coding": coding}  # the key of version 0.1.0
    return entry, parts | {name: _squeezed(parts[name], coding) for name in parts.keys() - leaf.uncoded}


def entropy_bytes(leaf: Leaf) -> float:
    """The bytes of a tensor if every code, and every eight weights of a mask, took as many bits as its
    frequency in this tensor allows (the order-0 entropy). Floats and ranges count as they are stored. What
    knows more than frequencies, such as the neighbours of a weight, can be smaller."""
    parts = leaf.encode(coded=True)[1]
    return float(sum(entropy_of(x) if x.dtype == np.uint8 else x.nbytes for x in parts.values()))


def entropy_of(x: UInt8[np.ndarray, "..."]) -> float:
    """Bytes of symbols that take as many bits as their frequencies allow."""
    counts = np.bincount(x.reshape(-1))
    counts = counts[counts > 0]
    return float(np.sum(counts * np.log2(x.size / counts))) / 8


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
    if parts.keys() != streams.keys() | kind.uncoded:
        raise ValueError(f"its parts are {', '.join(sorted(parts)) or 'none'}")
    coding = coding_of(entry)
    return kind.decode(entry, parts | {n: _checked(parts[n], n, s, coding) for n, s in streams.items()})


def _checked(part: np.ndarray, name: str, stream: Stream, coding: str) -> np.ndarray:
    """The elements of a stream."""
    dtype = np.dtype(stream.dtype)
    if coding != "plain":
        if part.dtype != np.uint8 or part.ndim != 1:
            raise ValueError(f"its {name} are {part.dtype} {part.shape} and no bytes")
        part = _expanded(part, stream.size * dtype.itemsize, name, coding).view(dtype)
    if part.dtype != dtype or part.shape != (stream.size,):
        raise ValueError(f"its {name} are {part.dtype} {part.shape} and not {dtype} ({stream.size},)")
    return part


def _squeezed(part: np.ndarray, coding: str) -> UInt8[np.ndarray, "bytes"]:
    codec, content = pyarrow.Codec(coding, compression_level=_LEVELS[coding]), np.ascontiguousarray(part)
    squeezed = abandonable(lambda: codec.compress(content, asbytes=True))  # 1 MB takes a second
    return np.frombuffer(squeezed, np.uint8)


def _expanded(
    part: UInt8[np.ndarray, "bytes"], size: int, name: str, coding: str
) -> UInt8[np.ndarray, "size"]:
    """The content of a compressed stream; ValueError where it does not have exactly `size` bytes."""
    try:
        # Codec.decompress would not notice that a brotli stream is too short: the rest is what memory held
        source = pyarrow.BufferReader(np.ascontiguousarray(part))
        with pyarrow.CompressedInputStream(source, coding) as stream:
            content = stream.read(size + 1)
    except (OSError, ValueError) as error:  # pyarrow's are both
        raise ValueError(f"its {name} are no {coding} of {size:,} bytes ({error})") from error
    if len(content) != size:
        held = f"{len(content):,}" if len(content) < size else "more"
        raise ValueError(f"its {name} are {coding} of {held} bytes and not of {size:,}")
    return np.frombuffer(content, np.uint8)
