"""Examples chosen by hash, so that the same ones are chosen wherever they stand and whatever is added.

The hash is that of the longest text which contains an example (phrase_splits.py): equal texts stay together,
and no phrase that is chosen is part of a sentence that is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt64

from tlc_jax.core import stopping
from tlc_jax.data.fingerprints import hash64
from tlc_jax.data.labelled.phrase_splits import longest_holders


def joined(texts: Sequence[tuple[str, ...]]) -> list[str]:
    """Each text, or pair of texts, as one."""
    return ["\0".join(parts) for parts in texts]


def chosen(texts: Sequence[str], share: float, seed: int) -> Bool[np.ndarray, "texts"]:
    """Which of the texts belong to a share of about this size."""
    return hashes(longest_holders(list(texts)), seed) < np.uint64(share * 2**64)


def hashes(texts: Sequence[str], seed: int) -> UInt64[np.ndarray, "texts"]:
    """A number for each text; the same for equal texts."""
    numbers = []
    for text in texts:
        stopping.check()
        numbers.append(hash64(text, seed))
    return np.array(numbers, np.uint64)
