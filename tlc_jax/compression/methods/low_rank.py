"""Low-rank factorisation: a matrix W [m, n] becomes the product of two factors, U [m, r] and V [r, n].

The truncated singular value decomposition W = A S B gives U = A sqrt(S) and V = sqrt(S) B, of the r largest
singular values: no matrix of rank r is closer to W in the sum of squares (Eckart and Young, 1936). It is
computed in float64 on the host, and the factors are float32, or codes with as many bits as the rule of the
tensor says, one range for each of the r components. The sign of a component is that with which the largest
magnitude of its column of U is positive; of equals, the first. A result is the same each time on one machine;
libraries of linear algebra differ in the last bits.

A factored tensor is stored as

    left_values, right_values     the factors [m, r] and [r, n] as float32, where `bits` is 32
    left_codes, right_codes       or else as codes (quantized.py), with
    left_delta, right_delta       one number for each component: of a column of U, of a row of V
    left_offset, right_offset     int32, or float32 where `zero` is 'float'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NotRequired

import jax
import numpy as np
from jaxtyping import Float
from pydantic import Field

from tlc_jax.compression.plain import FloatTensor, counts
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.compression.steps import Step
from tlc_jax.config.quantization import BITS, QuantSpec, Rule
from tlc_jax.config.validation import check
from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.leaf import Entry, Leaf, Parts, Stream
from tlc_jax.core.native import abandonable
from tlc_jax.core.schema import Count, TypedDict, record
from tlc_jax.core.sizes import Sizes, packed_bytes, paper_bytes

_BLOCK = 1 << 20  # weights of the product that are computed at once
_LARGEST = float(np.finfo(np.float32).max)


@record
class LowRankEntry(TypedDict):
    """The rank, and what the codes of the factors were made by."""

    layout: Literal["low_rank"]
    bits: Literal[BITS]  # type: ignore[valid-type]
    rank: Annotated[Count, Field(ge=1)]
    range: NotRequired[Annotated[str, Field(max_length=10_000)]]
    zero: NotRequired[Literal["nudged", "float"]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRankTensor(Leaf):
    """Two factors, FloatTensors or QuantizedTensors, of shapes [m, r] and [r, n].

    All weights of the product count as nonzero, since none is pruned; the paper's bytes are those of the
    numbers that are stored, r (m + n) of them."""

    left: Any
    right: Any

    schema: ClassVar[type] = LowRankEntry

    @property
    def shape(self) -> tuple[int, ...]:
        return self.left.shape[0], self.right.shape[1]

    def dense(self) -> Float[np.ndarray, "rows columns"]:
        """The product, summed in float64 and rounded to float32; beyond its range, the largest number."""
        left, right = (np.asarray(x.dense()).astype(np.float64) for x in (self.left, self.right))
        product = np.empty(self.shape, np.float32)
        rows = max(1, _BLOCK // self.shape[1])
        for start in range(0, len(product), rows):
            stopping.check()
            piece = left[start : start + rows] @ right
            product[start : start + rows] = np.clip(piece, -_LARGEST, _LARGEST)
        return product

    def sizes(self) -> Sizes:
        (rows, columns), entry = self.shape, self._entry()
        size, stored = rows * columns, self.streams(entry).values()
        paper = paper_bytes(entry["rank"] * (rows + columns), entry["bits"])
        return Sizes(size, size, 4 * size, paper, sum(np.dtype(s.dtype).itemsize * s.size for s in stored))

    def encode(self, coded: bool) -> tuple[Entry, Parts]:
        parts: Parts = {}
        for side in ("left", "right"):
            _, stored = getattr(self, side).encode(coded)
            parts |= {f"{side}_{part}": np.asarray(x).reshape(-1) for part, x in stored.items()}
        return self._entry(), {n: x.astype("<i4") if x.dtype.kind == "i" else x for n, x in parts.items()}

    def _entry(self) -> Entry:
        spec, shape = getattr(self.left, "spec", None), self.shape
        made_by = {"range": spec.range, "zero": spec.zero} if spec else {}
        about = {"shape": list(shape), "bits": spec.bits if spec else 32, **made_by}
        return {"layout": "low_rank", **about, "rank": self.left.shape[1], **counts(shape)}

    @classmethod
    def describes(cls, entry: Entry) -> bool:
        return entry["layout"] == "low_rank"

    @classmethod
    def streams(cls, entry: Entry) -> dict[str, Stream]:
        streams: dict[str, Stream] = {}
        for side, factor in _factors(entry).items():
            declared = _kind(factor).streams(factor)
            if entry["bits"] < 32:
                offset = "<f4" if entry.get("zero") == "float" else "<i4"
                declared["delta"] = Stream("<f4", entry["rank"])
                declared["offset"] = Stream(offset, entry["rank"])
            streams |= {f"{side}_{part}": stream for part, stream in declared.items()}
        return streams

    @classmethod
    def decode(cls, entry: Entry, parts: Parts) -> Leaf:
        sides, blocks = {}, {"left": (1, -1), "right": (-1, 1)}
        for side, factor in _factors(entry).items():
            stored = {n.removeprefix(f"{side}_"): x for n, x in parts.items() if n.startswith(f"{side}_")}
            ranges = stored.keys() & {"delta", "offset"}
            stored |= {part: stored[part].reshape(blocks[side]) for part in ranges}
            sides[side] = _kind(factor).decode(factor, stored)
        return cls(**sides)


def _factors(entry: Entry) -> dict[str, Entry]:
    """Entries of both factors, as their kind of leaf has them; ValueError where there is no such rank."""
    shape, rank = entry["shape"], entry["rank"]
    if len(shape) != 2 or rank > min(shape):
        raise ValueError(f"rank: a tensor of the shape {shape} has no rank {rank:,}")
    known = {key: entry[key] for key in ("bits", "range", "zero", "zstd", "coding") if key in entry}
    shapes = {"left": (shape[0], rank), "right": (rank, shape[1])}
    about = {"layout": "dense", "granularity": "row", **known}
    return {side: {**about, "shape": list(size), **counts(size)} for side, size in shapes.items()}


def _kind(factor: Entry) -> type[Leaf]:
    return FloatTensor if factor["bits"] == 32 else QuantizedTensor


@dataclass(frozen=True)
class LowRank(Step):
    """Factors in place of those matrices that rules allow to prune, where they take fewer bytes. Matrices
    with pruned weights stay whole, since a product has no zeros. UserError where ranges are symmetric or
    bfloat16, which factors are not stored with."""

    share: float = 0.5
    """Share of a matrix's parameters that its two factors have, at most."""
    rank: int | None = None
    """The rank of every matrix, in place of `share`."""

    leaf: ClassVar[type[Leaf] | None] = LowRankTensor

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.share < 1, f"share must be in (0, 1), not {self.share}")
        check(self.rank is None or self.rank >= 1, f"rank must be positive, not {self.rank}")

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(), cls(0.9), cls(rank=2)

    def rank_of(self, shape: tuple[int, ...]) -> int:
        """The rank of a matrix's factors; 0 where these have no fewer parameters."""
        rows, columns = shape
        size, each = rows * columns, max(rows + columns, 1)
        rank = int(self.share * size / each) if self.rank is None else self.rank
        return rank if rank * each < size else 0

    def undone(self, name: str, tensor: Any, rule: Rule, mask: Any) -> str:
        if not rule.prune or len(tensor.shape) != 2:
            return ""
        if _is_pruned(mask):
            return "not factored, since some weights are pruned"
        if self._saves(tensor.shape, rule):
            _check_ranges(name, rule)
            return ""
        size = f"share {self.share:g}" if self.rank is None else f"rank {self.rank}"
        return f"not factored ({size}), since that saves no bytes"

    def _saves(self, shape: tuple[int, ...], rule: Rule) -> bool:
        """Whether the factors of a matrix, with their ranges, take fewer bytes than its own codes."""
        rank, bits = self.rank_of(shape), rule.quant.bits if rule.quant else 32
        ranges = 16 * rank if bits < 32 else 0
        stored = packed_bytes(sum(shape) * rank, bits) + ranges
        return rank > 0 and stored < packed_bytes(math.prod(shape), bits)

    def convert(self, name: str, tensor: FloatTensor, rule: Rule, inputs: Any) -> Leaf:
        shape = tensor.shape
        if not rule.prune or len(shape) != 2 or _is_pruned(tensor.mask) or not self._saves(shape, rule):
            return tensor
        _check_ranges(name, rule)
        left, right = factors(name, np.asarray(tensor.values), self.rank_of(shape))
        spec = QuantSpec(32)
        if rule.quant:
            spec = QuantSpec(rule.quant.bits, "row", rule.quant.range, rule.quant.zero)
        # a range for each component: of a column, as in a kernel, and of a row
        return LowRankTensor(
            quantize_tensor("left/kernel", left, spec), quantize_tensor("right", right, spec)
        )


def factors(
    name: str, x: Float[np.ndarray, "rows columns"], rank: int
) -> tuple[Float[np.ndarray, "rows rank"], Float[np.ndarray, "rank columns"]]:
    """The float32 factors of the closest matrix of this rank. A request to stop is obeyed at any moment.
    UserError where a value is not finite."""
    if not np.isfinite(x).all():
        raise UserError(f"{name} has values that are not finite: it has no factors")
    left, values, right = abandonable(lambda: np.linalg.svd(x.astype(np.float64), full_matrices=False))
    left, right, scale = left[:, :rank], right[:rank], np.sqrt(values[:rank])
    largest = np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0)
    scale_left = np.where(largest < 0, -scale, scale)
    left, right = left * scale_left, right * scale_left.reshape(-1, 1)
    return np.ascontiguousarray(left, np.float32), np.ascontiguousarray(right, np.float32)


def _check_ranges(name: str, rule: Rule) -> None:
    """UserError where a rule has ranges that factors are not stored with."""
    spec = rule.quant
    if spec is None or spec.bits == 32:
        return
    if spec.zero == "symmetric":
        raise UserError(
            f"LowRank stores the factors of {name} with zero nudged or float, and not symmetric: give --zero "
            "nudged, or a rule without prune=True for this matrix"
        )
    if spec.range_dtype != "float32":
        raise UserError(
            f"LowRank stores the ranges of the factors of {name} as float32, and not as {spec.range_dtype}: "
            "give --range-dtype float32, or a rule without prune=True for this matrix"
        )


def _is_pruned(mask: Any) -> bool:
    return mask is not None and not np.asarray(mask).all()
