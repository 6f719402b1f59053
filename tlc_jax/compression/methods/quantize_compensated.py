"""Error-compensated rounding (GPTQ, Frantar et al. 2023, arXiv 2210.17323; OBQ, arXiv 2208.11580).

Each weight is rounded to the nearest code, and the weights of the inputs after it make up for the error
(elimination.py). The ranges are those of plain rounding, chosen for the trained weights of the tensor, row or
group. Pruned weights are exact zeros that the later inputs make up for as well: after a step that only
prunes, this is the joint pass of SparseGPT (arXiv 2301.00774, § 3.5).

Where the second moment of the inputs is diagonal, the codes are those of plain rounding bit for bit: so of an
embedding that is only looked up (input_statistics.py), of vectors, and of matrices with unknown inputs. A
result is the same each time on one machine; libraries of linear algebra differ in the last bits.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tlc_jax.compression.elimination import eliminate, inverse_factor
from tlc_jax.compression.input_statistics import InputStatistics, by_input, from_inputs
from tlc_jax.compression.plain import FloatTensor
from tlc_jax.compression.quantize import quantize_tensor
from tlc_jax.compression.quantized import QuantizedTensor
from tlc_jax.compression.rounding import Grid
from tlc_jax.compression.steps import Needs, Step
from tlc_jax.config.quantization import Rule
from tlc_jax.config.validation import check
from tlc_jax.core.leaf import Leaf


@dataclass(frozen=True)
class QuantizeCompensated(Step):
    """Codes as rules say, in all matrices whose inputs are known, rounded so that the outputs change least on
    calibration data."""

    dampening: float = 0.01
    """Added to the diagonal of the inputs' second moment, as a share of its mean: more trusts the calibration
    data less."""
    largest_first: bool = True
    """Round the weights of the largest inputs first, while most others are left to make up for the errors;
    else in the order that they have."""

    leaf: ClassVar[type[Leaf] | None] = QuantizedTensor

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.dampening < float("inf"), f"dampening must be positive, not {self.dampening}")

    @classmethod
    def examples(cls) -> tuple[Step, ...]:
        return cls(), cls(dampening=0.5, largest_first=False)

    @property
    def needs(self) -> Needs:
        return Needs.CALIBRATION

    def convert(self, name: str, tensor: FloatTensor, rule: Rule, inputs: InputStatistics | None) -> Leaf:
        hessian = None if inputs is None else inputs.hessian
        if hessian is None or len(tensor.shape) != 2:
            return tensor
        values = np.asarray(tensor.values)
        plain = quantize_tensor(name, values, rule.quant, tensor.mask)
        if not isinstance(plain, QuantizedTensor):
            return tensor
        order = np.arange(len(hessian))
        if self.largest_first:
            order = np.argsort(-np.diag(hessian), kind="stable")
        factor = inverse_factor(hessian[np.ix_(order, order)], self.dampening, name)
        kept = None if tensor.mask is None else by_input(name, tensor.mask)
        codes = compensated_codes(by_input(name, values), Grid.of(name, plain), factor, order, kept)
        return dataclasses.replace(plain, codes=from_inputs(name, codes, tensor.shape))


def compensated_codes(weights: Any, grid: Grid, factor: Any, order: Any, kept: Any = None) -> np.ndarray:
    """The codes of a matrix [inputs, outputs] whose inputs are rounded in this order; `factor` is that of
    their second moment in the same order. Where `kept` is False, a weight becomes zero."""
    codes = np.empty(weights.shape, np.uint8)

    def settle(i: int, present: np.ndarray) -> np.ndarray:
        j = int(order[i])
        codes[j], values = grid.round(j, present[i])
        return values if kept is None else np.where(kept[j], values, 0.0)

    eliminate(weights[order], factor, settle)
    return codes
