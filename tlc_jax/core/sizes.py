"""What compressed weights cost, in bytes: the one home of these formulas (paper footnote 7).

Three measures stand side by side wherever sizes are told: the paper's (non-zeros x bits), the format's (these
formulas, which tests compare with what is written), and the file's.
"""

from __future__ import annotations


def paper_bytes(nonzeros: int, bits: int) -> float:
    """The paper's measure of memory: ranges and the places of the zeros are not in it."""
    return nonzeros * bits / 8


def packed_bytes(count: int, bits: int) -> int:
    """A stream of `count` codes of `bits` bits."""
    return -(-count * bits // 8)


def dense_bytes(size: int, bits: int) -> int:
    """A tensor of `size` weights, each as a code (or, at 32 bits, as a float32)."""
    return packed_bytes(size, bits)


def bitmap_bytes(size: int, nonzeros: int, bits: int) -> int:
    """One bit a weight says whether it is kept, and codes for those that are."""
    return packed_bytes(size, 1) + packed_bytes(nonzeros, bits)


def is_sparse(size: int, nonzeros: int, bits: int) -> bool:
    """Whether the bitmap is the smaller of both: from a sparsity of 1 / bits on."""
    return bitmap_bytes(size, nonzeros, bits) < dense_bytes(size, bits)


def weight_bytes(size: int, nonzeros: int, bits: int, dense: bool) -> int:
    """In either layout."""
    return dense_bytes(size, bits) if dense else bitmap_bytes(size, nonzeros, bits)
