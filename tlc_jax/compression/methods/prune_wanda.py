"""Pruning by weights and activations (Wanda, Sun et al. 2024, arXiv 2306.11695).

The score of a weight is its magnitude times the norm of its input over the calibration data, |W_ij| |X_j|_2
(§ 3, equation 1), and weights are compared within one output: each output loses the same share (§
3, "comparison group"), or of every M neighbours in its row the M - N lowest scores. What stays keeps its
value.

The inputs of an embedding that is looked up are one-hot: the norm of a row is the square root of how often it
is used, and an output is one unit of all rows. Of an embedding that is also the output matrix an output is a
row, and the squares of norms are the diagonal of its Hessian (input_statistics.py). With unknown inputs the
score is the magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tlc_jax.compression.calibrated_pruning import (
    CalibratedPruning,
    Kept,
    Weights,
    from_groups,
    in_groups,
    keep_largest,
)
from tlc_jax.compression.input_statistics import InputStatistics
from tlc_jax.compression.steps import Step


@dataclass(frozen=True)
class PruneWanda(CalibratedPruning):
    """Zeros where |weight| x |input| is smallest, the same share of the weights of each output."""

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(), cls(0.3), cls(pattern="2:4")

    def keep(self, name: str, weights: Weights, inputs: InputStatistics, kept: Kept, is_lookup: bool) -> Kept:
        scores = np.abs(weights).astype(np.float64)
        if (hessian := inputs.hessian) is not None:
            scores *= np.sqrt(np.diag(hessian))[:, None]
        elif inputs.uses is not None:
            scores *= np.sqrt(inputs.uses)  # of the rows, which are columns here
        if self.group is not None:
            n, m = self.group
            groups = keep_largest(in_groups(scores, m), in_groups(kept, m), m - n)
            return from_groups(groups, weights.shape)
        if is_lookup:
            return keep_largest(scores.T, kept.T, round(self.sparsity * weights.shape[1])).T
        return keep_largest(scores, kept, round(self.sparsity * len(weights)))
