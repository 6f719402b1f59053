"""How large a compressed model is, in bytes."""

from __future__ import annotations

import numpy as np

from tlc_jax.core.tree import Params, count, flatten


def nonzero_count(params: Params, masks: Params | None) -> int:
    """Weights that are kept; without masks, all of them."""
    kept = {} if masks is None else flatten(masks)
    return count(params) - sum(int(np.sum(~np.asarray(mask))) for mask in kept.values())


def paper_bytes(params: Params, bits: int, masks: Params | None = None) -> float:
    """The paper's measure of memory: non-zeros x bits / 8. Ranges and the places of the zeros are not
    in it (paper footnote 7), so no file is this small."""
    return nonzero_count(params, masks) * bits / 8
