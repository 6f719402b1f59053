"""How much longer the updates of the best model might take without it losing its lead.

Equal time rests on measured times of an update. A model whose updates take a times as long would have seen,
at the same second, what it saw at 1/a of it: its curve over time tells what it would have had.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def slack(curve: Sequence[tuple[float, float]], seconds: float, level: float) -> float | None:
    """How many times as long the updates of a model may take until at `seconds` it is no better than `level`:
    seconds over those at which its curve, (training seconds, loss) in the order of time, last came down to
    that level, interpolated over the logarithm of time. None if it has always been below it."""
    until = [point for point in curve if point[0] <= seconds]
    for (start, before), (end, after) in reversed(list(itertools.pairwise(until))):
        if before >= level > after:
            part = (before - level) / (before - after)
            reached = math.log(start) + part * (math.log(end) - math.log(start))
            return seconds / math.exp(reached)
    return None
