"""Leaves that are not quantized: floats, of which some may be pruned, and integers.

Floats are stored in one of two layouts, whichever is smaller (core/sizes.py):

    dense    values    every weight as a float32
    bitmap   mask      one bit for each weight, 1 where it is kept
             values    the weights that are kept
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NotRequired

import jax
import numpy as np

from tlc_jax.compression.packing import pack_mask, scatter, unpack_mask
from tlc_jax.core import sizes
from tlc_jax.core.leaf import Entry, Leaf, Parts, Stream, zero_where_false
from tlc_jax.core.schema import TypedDict, record
from tlc_jax.core.sizes import Sizes, packed_bytes

INTEGERS = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8")
"""Types of tensors that hold no weights: positions and the like."""


@record
class LayoutEntry(TypedDict):
    """One of the two layouts of weights."""

    layout: Literal["dense", "bitmap"]


@record
class IntegerEntry(TypedDict):
    layout: Literal["dense"]
    dtype: NotRequired[Literal[INTEGERS]]  # type: ignore[valid-type]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FloatTensor(Leaf):
    """Floats of any shape; `mask`, if there is one, is False where a weight is pruned, whatever its value."""

    values: Any
    mask: Any = None

    schema: ClassVar[type] = LayoutEntry

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dense(self) -> Any:
        return self.values if self.mask is None else zero_where_false(self.values, self.mask)

    def unconverted(self) -> FloatTensor:
        return self

    def sizes(self) -> Sizes:
        size, kept = self.values.size, kept_weights(self.shape, self.mask)
        stored = sizes.weight_bytes(size, kept, 32, self._is_dense())
        return Sizes(size, kept, 4 * size, sizes.paper_bytes(kept, 32), stored)

    def encode(self, coded: bool) -> tuple[Entry, Parts]:
        layout, chosen, parts = layout_of(self.mask, self._is_dense())
        host = np.asarray(self.dense())
        parts["values"] = host.astype("<f4").reshape(-1)[chosen]
        return {**layout, "shape": list(host.shape), "bits": 32, **counts(self.shape, self.mask)}, parts

    def _is_dense(self) -> bool:
        size = self.values.size
        return self.mask is None or not sizes.is_sparse(size, kept_weights(self.shape, self.mask), 32)

    @classmethod
    def describes(cls, entry: Entry) -> bool:
        return entry["layout"] in ("dense", "bitmap") and entry["bits"] == 32 and "dtype" not in entry

    @classmethod
    def streams(cls, entry: Entry) -> dict[str, Stream]:
        return mask_stream(entry) | {"values": Stream("<f4", stored_weights(entry))}

    @classmethod
    def decode(cls, entry: Entry, parts: Parts) -> Leaf:
        mask = stored_mask(entry, parts)
        return cls(scatter(parts["values"].astype(np.float32, copy=False), mask, tuple(entry["shape"])), mask)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class IntegerTensor(Leaf):
    """Integers, which are no weights and stay as they are."""

    values: Any

    schema: ClassVar[type] = IntegerEntry

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def dense(self) -> Any:
        return self.values

    def sizes(self) -> Sizes:
        return Sizes(float32_bytes=self.values.nbytes, format_bytes=self.values.nbytes)

    def encode(self, coded: bool) -> tuple[Entry, Parts]:
        x = np.asarray(self.values)
        entry = {
            "layout": "dense",
            "shape": list(x.shape),
            "bits": 8 * x.dtype.itemsize,
            "dtype": x.dtype.str,
        }
        return {**entry, **counts(x.shape)}, {"values": x.reshape(-1)}

    @classmethod
    def describes(cls, entry: Entry) -> bool:
        return "dtype" in entry

    @classmethod
    def streams(cls, entry: Entry) -> dict[str, Stream]:
        return {"values": Stream(entry["dtype"], entry["weights"])}

    @classmethod
    def decode(cls, entry: Entry, parts: Parts) -> Leaf:
        if 8 * parts["values"].dtype.itemsize != entry["bits"]:
            raise ValueError(f"{entry['dtype']} does not have {entry['bits']} bits")
        return cls(parts["values"].reshape(tuple(entry["shape"])))


def plain(x: Any, mask: Any = None) -> Leaf:
    """The leaf of an array that no step has converted."""
    return FloatTensor(x, mask) if x.dtype.kind == "f" else IntegerTensor(x)


def kept_weights(shape: tuple[int, ...], mask: Any) -> int:
    """The number of weights that a mask keeps; all of the tensor's without one."""
    return math.prod(shape) if mask is None else int(np.asarray(mask).sum())


def counts(shape: tuple[int, ...], mask: Any = None) -> Entry:
    """The end of every manifest entry: weights, and those of them that are kept."""
    return {"weights": math.prod(shape), "nonzeros": kept_weights(shape, mask)}


def layout_of(mask: Any, dense: bool) -> tuple[Entry, Any, Parts]:
    """(the layout's name as a manifest entry, an index of the weights that it stores, its bitmap)."""
    if dense:
        return {"layout": "dense"}, slice(None), {}
    kept = np.asarray(mask)
    return {"layout": "bitmap"}, kept.reshape(-1), {"mask": pack_mask(kept)}


def stored_weights(entry: Entry) -> int:
    """The number of weights that a layout stores."""
    return entry["weights"] if entry["layout"] == "dense" else entry["nonzeros"]


def mask_stream(entry: Entry) -> dict[str, Stream]:
    """The stream of a layout with a bitmap."""
    return {} if entry["layout"] == "dense" else {"mask": Stream("|u1", packed_bytes(entry["weights"], 1))}


def stored_mask(entry: Entry, parts: Parts) -> np.ndarray | None:
    """The mask of a layout with a bitmap; ValueError where it keeps another number of weights."""
    if entry["layout"] == "dense":
        return None
    mask = unpack_mask(parts["mask"], tuple(entry["shape"]))
    if (kept := int(mask.sum())) != entry["nonzeros"]:
        raise ValueError(f"its mask keeps {kept:,} weights and not {entry['nonzeros']:,}")
    return mask
