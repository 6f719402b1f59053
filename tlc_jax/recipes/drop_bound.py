"""How much accuracy a compressed model may have lost, at most, given how it did on a sample of examples.

Of n examples, drawn independently, `lost` are right before compression and wrong after it, and `gained` the
other way round; their probabilities are p and q, and the drop in accuracy is p - q. `drop_bound` is an upper
confidence limit of it that is valid for every n, p and q, without an approximation:

* Outcomes are put into an order, the best first, that does not depend on the data: by the normal
  approximation's limit, lost - gained + z sqrt(lost + gained + k). The limit for an outcome is the smallest
  drop at which this outcome or a better one has a probability of at most alpha, whatever q (Buehler 1957; for
  tests of paired proportions, Hsueh, Liu and Chen 2001).
* q is not known. It is taken from a confidence interval, whose share of errors is taken from alpha (Berger
  and Boos 1994). Over this interval, the largest probability is bounded by cells: a set that holds, with an
  outcome, all with fewer lost and with more gained examples is the less probable the larger p, and the more
  probable the larger q, so in a cell of q it is largest with the smallest p and the largest q.

Without a lost or gained example the limit is about 3 / n at a confidence of 95 %. Limits of p and of q by
themselves (Clopper and Pearson 1934), which share alpha, are up to half as large again.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy  # whose parts are imported where they are used, which takes a second

_OF_ALPHA = 1 / 50  # for the interval of q
_CELLS = 500
_LEFT_OUT = 1e-12  # probability of more gained examples than are summed over
_HALVINGS = 12  # of the interval that the limit is in


@functools.lru_cache(maxsize=1 << 14)
def chance(examples: int, lost: int, gained: int, drop: float, confidence: float) -> float:
    """The largest probability of this outcome or a better one, of a model whose accuracy drops by `drop` or
    more, with 0 <= drop <= 1. A drop of less is certain with `confidence` where this is at most 1 -
    confidence."""
    alpha = 1 - confidence
    share = alpha * _OF_ALPHA
    highest = 1.0 if gained == examples else float(scipy.stats.beta.isf(share, gained + 1, examples - gained))
    edges = np.linspace(0.0, min(highest, (1 - drop) / 2), _CELLS + 1)
    least_lost, most_gained = drop + edges[:-1, None], edges[1:, None]
    least_lost = np.minimum(least_lost, 1 - most_gained)
    counts = np.arange(int(scipy.stats.binom.isf(_LEFT_OUT, examples, edges[-1])) + 1)
    most = _most_lost(lost, gained, counts, confidence)
    others = least_lost / np.maximum(1 - most_gained, np.finfo(float).tiny)
    below = scipy.special.bdtr(
        np.clip(most, 0, examples - counts), examples - counts, np.minimum(others, 1.0)
    )
    weights = scipy.stats.binom.pmf(counts, examples, most_gained)
    within = np.sum(np.where(most >= 0, below * weights, 0.0), axis=1)
    return min(1.0, float(within.max()) + share + _LEFT_OUT)


def _most_lost(lost: int, gained: int, counts: np.ndarray, confidence: float) -> np.ndarray:
    """For each of these numbers of gained examples, the most lost ones of an outcome that is no worse than
    (lost, gained); -1 where there is none."""
    z = max(float(scipy.stats.norm.isf(1 - confidence)), 0.0)
    k = max(1.0, z * z / 4)  # with less, one more gained example could be worse
    limit = lost - gained + z * math.sqrt(lost + gained + k)
    root = (np.sqrt(np.maximum(z * z + 4 * (limit + 2 * counts + k), 0.0)) - z) / 2
    most = np.floor(root**2 - counts - k + 1e-9)
    return np.where(limit + 2 * counts + k < 0, -1, np.maximum(most, -1)).astype(int)


def drop_bound(examples: int, lost: int, gained: int, confidence: float) -> float:
    """The drop in accuracy that is not exceeded with this confidence; 0 where the model is certainly no
    worse, 1 where nothing can be said."""
    alpha = 1 - confidence
    low, high = 0.0, min(1.0, (max(lost - gained, 0) + 6 * math.sqrt(lost + gained + 4) + 8) / examples)
    if chance(examples, lost, gained, low, confidence) <= alpha:
        return 0.0
    if chance(examples, lost, gained, high, confidence) > alpha:
        low, high = high, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        certain = chance(examples, lost, gained, middle, confidence) <= alpha
        low, high = (low, middle) if certain else (middle, high)
    return high


def least_drop(examples: int, confidence: float) -> float:
    """The smallest drop that can be certified of a model all of whose answers stay what they were."""
    return drop_bound(examples, 0, 0, confidence)
