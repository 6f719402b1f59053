"""Rounding of the weights of one input after the other onto a grid that was chosen for the whole matrix.

The codes are those of quantize.py, bit for bit: float32, half to even, and numbers below the smallest normal
one count as zero, as XLA has them on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from tlc_jax.compression.input_statistics import by_input
from tlc_jax.compression.quantized import QuantizedTensor

_SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Grid:
    """The ranges of a quantized matrix: [blocks of inputs, outputs or 1], where a block has `extent` inputs
    of one range."""

    delta: Float[np.ndarray, "blocks _"]
    offset: np.ndarray
    highest: int
    extent: int

    @classmethod
    def of(cls, name: str, tensor: QuantizedTensor) -> Grid:
        """The grid of the matrix called `name`."""
        delta, offset, codes = (by_input(name, x) for x in (tensor.delta, tensor.offset, tensor.codes))
        return cls(delta, offset, 2**tensor.spec.bits - 1, len(codes) // len(delta))

    def round(
        self, j: int, weights: Float[np.ndarray, "outputs"]
    ) -> tuple[UInt8[np.ndarray, "outputs"], Float[np.ndarray, "outputs"]]:
        """(codes, their values in float32) of the weights of input j."""
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            x = weights.astype(np.float32)
            x = np.where(np.abs(x) < _SMALLEST, np.float32(0), x)
            delta, offset = self.delta[j // self.extent], self.offset[j // self.extent]
            if offset.dtype.kind == "f":
                codes = np.clip(np.rint((x - offset) / delta), 0, self.highest)
                return codes.astype(np.uint8), offset + delta * codes.astype(np.float32)
            codes = np.clip(np.rint(x / delta) + offset, 0, self.highest)
            return codes.astype(np.uint8), delta * (codes - offset).astype(np.float32)
