"""What calibration data say of the inputs of a matrix, for the steps that need it.

A matrix of N outputs and n inputs is seen here as W [N, n]: a row is one output, along the axis of
`row_axis` (quantize.py). Changing W by D changes the outputs by D x, and the mean over the inputs x of the
sum of squares of that is tr(D H D^T) with the uncentred second moment H = E[x x^T] (GPTQ, arXiv 2210.17323,
§ 3; up to a factor the Hessian of each row).

An embedding that is looked up has one-hot inputs over its rows. A token changes the sum by D_r of its own row
r alone, so the mean is the sum of c_r |D_r|^2 with c_r the share of the tokens that use r: the Hessian within
a row is c_r times the identity. Nothing that is done to one weight can then be made up for by another one,
and c_r says only which rows matter more.

A tied embedding is both: every row takes part in every prediction, and is looked up besides. The units of the
two errors differ, since logits are read through softmax and embeddings through normalisation, so neither is
right alone; its Hessian here is H, as a multiple of the mean of its diagonal, plus the identity, which gives
both the same weight for a row of average use. A translation model of 2 x 64 whose embedding alone is rounded
to 2 bits a weight loses 0.62 nats a byte by plain rounding, 0.63 with H alone and 0.59 with both. How often
each of its tokens is used is not part of that: the counts change neither how its rows are rounded nor which
of them lose weights.

The inputs of all matrices are those of the uncompressed model, where GPTQ and SparseGPT feed each layer the
outputs of the layers that are compressed already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tlc_jax.compression.quantize import row_axis


@dataclass(frozen=True)
class InputStatistics:
    """Of one matrix, in float64."""

    second_moment: Float[np.ndarray, "inputs inputs"] | None = None
    """The mean of x x^T over all inputs x; None where the matrix is only looked up."""
    uses: Float[np.ndarray, "rows"] | None = None
    """Of a matrix that is looked up: the share of the tokens that use each row."""

    @property
    def hessian(self) -> Float[np.ndarray, "inputs inputs"] | None:
        """Of each row, but for a factor; None where nothing is known but uses."""
        if self.second_moment is None or self.uses is None:
            return self.second_moment
        scale = float(np.mean(np.diag(self.second_moment)))
        return self.second_moment / (scale or 1.0) + np.eye(len(self.second_moment))


Statistics = Mapping[str, InputStatistics]
"""{tensor name: what its inputs are}. Matrices without one have unknown inputs."""


def by_input(name: str, x: Any) -> np.ndarray:
    """A matrix as [inputs, outputs]: our kernels as they are, all others transposed."""
    x = np.asarray(x)
    return x if row_axis(name, x.shape) == 0 else x.T


def from_inputs(name: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `by_input`, for a matrix of this shape."""
    return np.ascontiguousarray(x if row_axis(name, shape) == 0 else x.T)
