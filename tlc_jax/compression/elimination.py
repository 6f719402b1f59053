"""The optimal brain surgeon, one input after the other: what is done to the weights of an input, the weights
of all later inputs make up for as well as they can.

Let D be the change of a matrix, a row for each output, and H the second moment of its inputs; its cost is
tr(D H D^T). If the weights of input j change by e, then the best change of the later ones is

    -e (H_J^-1)_jk / (H_J^-1)_jj    for each input k > j, and costs    |e|^2 / (H_J^-1)_jj

with H_J the rows and columns of H from j on (Hassibi and Stork 1993; OBQ, arXiv 2208.11580, equation 3). With
the upper triangular U of H^-1 = U^T U, (H_J^-1)_jk = U_jj U_jk for all j at once (GPTQ, arXiv 2210.17323,
§ 3.3, step 3), so that inputs are done in one order for all outputs. The costs of the single inputs add
up to that of the whole change exactly.

Where the e are rounding errors, independent of each other and of one variance for all inputs, the mean cost
is that variance times the sum of the 1 / U_jj^2, and without compensation times tr(H), which is never less:
1 / U_jj^2 is what is left of H_jj once the later inputs are known. This is a statement on the average; a
single matrix may fare worse, and so may one with weights beyond the range of its codes. If H is diagonal,
nothing is made up for.

All is computed in float64 on the host. The later inputs are updated in blocks (§ 3.3, step 2), which
changes the order of the sums alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float

from tlc_jax.core import stopping
from tlc_jax.core.errors import UserError
from tlc_jax.core.native import abandonable

BLOCK = 128  # inputs that are done before those after them are updated
Settle = Callable[[int, Float[np.ndarray, "inputs outputs"]], Float[np.ndarray, "outputs"]]
"""(an input j, the present weights) -> what the weights of j become."""


def inverse_factor(
    moment: Float[np.ndarray, "inputs inputs"], dampening: float, name: str
) -> Float[np.ndarray, "inputs inputs"]:
    """The upper triangular U of H^-1 = U^T U, where H is the second moment as a multiple of the mean of its
    diagonal, plus `dampening` (positive) on the diagonal: inputs that never occur together, or not at all,
    leave it singular. Inputs that are all zero are taken for independent ones. UserError where so little is
    added that it stays singular; `name` is that of the matrix."""
    scale = float(np.mean(np.diag(moment), dtype=np.float64))
    damped = moment / scale if scale > 0 and np.isfinite(scale) else np.zeros(moment.shape)
    damped = damped + dampening * np.eye(len(moment))

    def factor() -> np.ndarray:
        # H = R R^T with R upper triangular, a Cholesky factorisation from the end, and U is the inverse of R
        try:
            lower = scipy.linalg.cholesky(damped[::-1, ::-1], lower=True)
            inverse = scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True)
        except np.linalg.LinAlgError as error:
            raise UserError(
                f"the second moment of the inputs of {name} has no inverse with a dampening of "
                f"{dampening:g}: raise dampening (0.01 is the default)"
            ) from error
        return np.ascontiguousarray(inverse[::-1, ::-1])

    return abandonable(factor)


def eliminate(
    weights: Float[np.ndarray, "inputs outputs"],
    factor: Float[np.ndarray, "inputs inputs"],
    settle: Settle,
    block: int = BLOCK,
) -> Float[np.ndarray, "inputs outputs"]:
    """The weights that `settle` gives one input after the other, each from weights that make up for those
    before. At the beginning of each block all weights after it are up to date, within it those of the block
    are. A request to stop is obeyed between blocks."""
    weights = weights.astype(np.float64)
    for start in range(0, len(weights), block):
        stopping.check()
        end = min(start + block, len(weights))
        errors = np.empty((end - start, weights.shape[1]))
        for j in range(start, end):
            value = settle(j, weights)
            errors[j - start] = (weights[j] - value) / factor[j, j]
            weights[j] = value
            weights[j + 1 : end] -= factor[j, j + 1 : end, None] * errors[j - start]
        weights[end:] -= factor[start:end, end:].T @ errors
    return weights
