"""One-shot pruning with compensation (SparseGPT, Frantar and Alistarh 2023, arXiv 2301.00774; optimal brain
surgeon, elimination.py).

Inputs are done in blocks. In each, those weights of all outputs become zero whose removal costs least, w^2 /
(H_J^-1)_jj (§ 3.2, "mask selection", and algorithm 1), then the later inputs make up for them. Blocks
lose the same share, and the numbers of zeros are exact. For N:M a block is M inputs, and each output chooses
for itself (§ 3.2, "extension to semi-structured sparsity").

What other steps have pruned is made up for in the same way, whatever they chose it by, so PruneWanda and this
step with a sparsity of 0 are Wanda's mask with compensation. A model that was finetuned after pruning has
zeros there already, and does not change. Masks are chosen before anything is rounded. With
QuantizeCompensated(largest_first=False) after this step, the weights are those of the joint pass of § 3.5:
compensation is linear, so two passes in one order add up to one. By default QuantizeCompensated does the
largest inputs first, in another order than this step, and the weights are not those of one pass.

An embedding that is looked up has rows that nothing makes up for: all its weights are one block, and cost w^2
times the share of the tokens that use their row. Unknown inputs count as independent ones of one size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tlc_jax.compression.calibrated_pruning import (
    CalibratedPruning,
    Kept,
    Weights,
    from_groups,
    in_groups,
    keep_largest,
)
from tlc_jax.compression.elimination import BLOCK, eliminate, inverse_factor
from tlc_jax.compression.input_statistics import InputStatistics, by_input, from_inputs
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.steps import Step
from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check
from tlc_jax.core.leaf import Leaf

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class PruneCompensated(CalibratedPruning):
    """Zeros where they change the outputs least, and other weights that make up for all that is pruned."""

    dampening: float = 0.01
    """Added to the diagonal of the inputs' second moment, as a share of its mean."""

    leaf: ClassVar[type[Leaf] | None] = FloatTensor

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.dampening < float("inf"), f"dampening must be positive, not {self.dampening}")

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(), cls(0.3), cls(0.0), cls(pattern="2:4")

    def keep(self, name: str, weights: Weights, inputs: InputStatistics, kept: Kept, is_lookup: bool) -> Kept:
        if (hessian := inputs.hessian) is not None:
            factor = inverse_factor(hessian, self.dampening, name)
            return self._eliminated(weights, factor, kept)
        costs = np.square(weights, dtype=np.float64)
        if inputs.uses is not None:
            costs *= inputs.uses
        if self.group is not None:
            groups = keep_largest(in_groups(costs, self.group[1]), in_groups(kept, self.group[1]), self._gone)
            return from_groups(groups, weights.shape)
        count = round(self.sparsity * weights.size)
        return keep_largest(costs.reshape(-1, 1), kept.reshape(-1, 1), count).reshape(weights.shape)

    @property
    def _gone(self) -> int:
        """M - N of the pattern."""
        n, m = self.group or (0, 0)
        return m - n

    def _eliminated(self, weights: Weights, factor: Any, kept: Kept) -> Kept:
        """The mask that is chosen while weights are compensated."""
        size = self.group[1] if self.group else BLOCK
        squares = np.square(np.diag(factor))[:, None]

        def settle(j: int, present: np.ndarray) -> np.ndarray:
            if j % size == 0:
                block = slice(j, j + size)
                costs = np.square(present[block]) / squares[block]
                kept[block] = self._cheapest_removed(costs, kept, block)
            return np.where(kept[j], present[j], 0.0)

        eliminate(weights, factor, settle, block=size * max(1, BLOCK // size))
        return kept

    def _cheapest_removed(self, costs: Any, kept: Kept, block: slice) -> Kept:
        """What stays of a block, so that all inputs up to its end have the right number of zeros."""
        if self.group is not None:
            return keep_largest(costs, kept[block], self._gone)
        end = min(block.stop, len(kept))
        gone, here = (int(np.count_nonzero(~part)) for part in (kept[: block.start], kept[block]))
        count = max(round(self.sparsity * end * kept.shape[1]) - gone, here)
        return keep_largest(costs.reshape(-1, 1), kept[block].reshape(-1, 1), count).reshape(costs.shape)

    def convert(self, name: str, tensor: FloatTensor, rule: Rule, inputs: InputStatistics | None) -> Leaf:
        hessian = None if inputs is None else inputs.hessian
        if hessian is None or tensor.mask is None or np.asarray(tensor.mask).all() or len(tensor.shape) != 2:
            return tensor
        kept = by_input(name, tensor.mask)
        weights = by_input(name, tensor.values)
        if not weights[~kept].any():
            return tensor  # finetuned without them
        factor = inverse_factor(hessian, self.dampening, name)
        values = eliminate(weights, factor, lambda j, w: np.where(kept[j], w[j], 0.0))
        values = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
        return FloatTensor(from_inputs(name, values, tensor.shape), tensor.mask)
