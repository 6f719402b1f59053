"""The protocol of compressed tensors: what accounting, artifacts and exports ask of every kind of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from tlc_jax.core.packed import PackedTensor
from tlc_jax.core.sizes import Sizes

Entry = dict[str, Any]
"""What the manifest of an artifact says of one tensor."""
Parts = dict[str, np.ndarray]
"""The arrays that one tensor is stored as, by short names."""
Masks = dict[str, Any]
"""{tensor name: boolean array of its shape}, False where a weight is pruned. Tensors without a mask are
whole."""


class Stream(NamedTuple):
    """A flat array of an encoded tensor: its type in numpy's notation and its number of elements."""

    dtype: str
    size: int


def coding_of(entry: Mapping[str, Any]) -> str:
    """How the streams of a manifest entry are written: plain, or compressed with brotli or zstd."""
    return "zstd" if entry.get("zstd") else entry.get("coding", "plain")


def is_coded(entry: Mapping[str, Any]) -> bool:
    """Whether the streams of a manifest entry are compressed."""
    return coding_of(entry) != "plain"


class Leaf(ABC):
    """One compressed tensor.

    A kind of leaf is a frozen dataclass with `register_dataclass`, so that a model of leaves is a pytree."""

    schema: ClassVar[type]
    """A TypedDict: the keys of a manifest entry that only this kind has."""
    uncoded: ClassVar[frozenset[str]] = frozenset()
    """Parts beside the streams, which are stored as they are whatever the coding."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor that `dense` returns."""

    @abstractmethod
    def dense(self) -> Any:
        """The tensor as one array: float32, or the integers that are stored."""

    @abstractmethod
    def sizes(self) -> Sizes:
        """Sizes of this tensor; `format_bytes` is the bytes of what encode(coded=False) returns."""

    @abstractmethod
    def encode(self, coded: bool) -> tuple[Entry, Parts]:
        """The manifest entry and the arrays to store. Streams that are `coded` afterwards
        (artifacts/encoding.py) have a whole byte for each code: packed bits would hide what repeats."""

    @classmethod
    @abstractmethod
    def describes(cls, entry: Entry) -> bool:
        """Whether a manifest entry is of this kind."""

    @classmethod
    @abstractmethod
    def streams(cls, entry: Entry) -> dict[str, Stream]:
        """The flat arrays that an entry of this kind declares, as `encode` returned them."""

    @classmethod
    @abstractmethod
    def decode(cls, entry: Entry, parts: Parts) -> Leaf:
        """The leaf that `encode` was called on. The streams have the declared types and sizes; ValueError
        where anything else in `parts` contradicts `entry`, which may come from anybody."""

    def packed(self, bits: int, axis: int) -> PackedTensor | None:
        """What a model keeps of a matrix in memory, on the host: codes that are read as codes of `bits` bits,
        which are no fewer than its own, packed along `axis` (core/packed.py). None: its dense values."""
        return None

    def unconverted(self) -> Any:
        """The leaf itself where it is floats (a FloatTensor), which a step of a recipe may still convert."""
        return None

    def on_grid(self) -> Any:
        """The leaf itself where it is codes on a uniform grid (a QuantizedTensor), which other programs'
        formats have a place for; all others are exported as `dense`."""
        return None


def to_dense(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """The dense arrays of many leaves."""
    return {name: leaf.dense() for name, leaf in leaves.items()}


@jax.jit
def zero_where_false(x: Shaped[Any, "*shape"], mask: Bool[Any, "*shape"]) -> jax.Array:
    """x with exact zeros, never -0, where the mask is False."""
    return jnp.where(mask, x, jnp.zeros((), x.dtype))
