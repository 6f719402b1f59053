"""The size of compressed weights in bytes: the one home of these formulas (paper footnote 7).

Three measures are reported side by side: the paper's (non-zeros x bits), the format's (these formulas, which
tests compare with what is written), and that of the file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes of one tensor or of a whole model; sizes add up.

    `paper_bytes` counts neither ranges nor the positions of zeros; `format_bytes` is what the format writes,
    without names; `float32_bytes` is the size of the same tensors uncompressed."""

    weights: int = 0
    nonzeros: int = 0
    float32_bytes: int = 0
    paper_bytes: float = 0.0
    format_bytes: int = 0

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


def paper_bytes(nonzeros: int, bits: int) -> float:
    """The paper's measure of memory, without ranges and positions of zeros."""
    return nonzeros * bits / 8


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of a stream of `count` codes of `bits` bits (at 32 bits: of float32 values)."""
    return -(-count * bits // 8)


def bitmap_bytes(size: int, nonzeros: int, bits: int) -> int:
    """Bytes of a bitmap of `size` weights, and of codes for those that are kept."""
    return packed_bytes(size, 1) + packed_bytes(nonzeros, bits)


def is_sparse(size: int, nonzeros: int, bits: int) -> bool:
    """Whether the bitmap is the smaller of the two: from a sparsity of 1 / bits on."""
    return bitmap_bytes(size, nonzeros, bits) < packed_bytes(size, bits)


def weight_bytes(size: int, nonzeros: int, bits: int, dense: bool) -> int:
    """Bytes of the weights in either layout."""
    return packed_bytes(size, bits) if dense else bitmap_bytes(size, nonzeros, bits)
