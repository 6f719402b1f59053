"""The few shapes of the batches that sentences are translated in: each takes seconds to compile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_ROWS, FEW_ROWS = 64, 8
_SHORT = (24, 56)  # tokens of few sentences; a batch of them that is longer is padded to the longest
_WASTE = 1.5  # times the cost with other lengths, from which on these are compiled, too
_SLOW = 1.5  # times the time that a sentence takes in a full batch, in one of few: 1.3 to 1.7 on two cores
_MOST_LENGTHS = 6


class BatchShapes:
    """Rows and lengths of batches of sentences of at most `longest` tokens, </s> included.

    Many sentences have lengths that suit those that came first and, where later ones are of other lengths,
    further ones, seven at most. Few sentences, and those that are longer than these lengths, have one of
    three."""

    def __init__(self, longest: int):
        self._whole = rounded(longest)
        self._lengths: tuple[int, ...] = ()
        self._used = set[int]()

    def suit(self, sizes: Sequence[int]) -> None:
        """Take lengths for sentences of these sizes, unless they are few or the lengths that there are do."""
        if len(sizes) <= FEW_ROWS:
            return
        better = common_lengths(sizes, self._whole)
        if not self._lengths:
            self._lengths = better
        elif len(sizes) >= MOST_ROWS and _cost(sizes, self._lengths, self._whole) > _WASTE * _cost(
            sizes, better, self._whole
        ):
            all_lengths = {*self._lengths, *better}
            if len(all_lengths) > _MOST_LENGTHS:
                all_lengths = {*self._lengths, self._whole}
            self._lengths = tuple(sorted(all_lengths))

    def rows_and_length(self, count: int, longest: int) -> tuple[int, int]:
        """Rows, at most, and length of the next batch: `count` sentences are left, of at most `longest`
        tokens."""
        if count > FEW_ROWS and self._lengths and longest <= self._lengths[-1]:
            return MOST_ROWS, min(each for each in self._lengths if longest <= each)
        return FEW_ROWS, self._few_length(longest)

    def _few_length(self, longest: int) -> int:
        """The shortest of three lengths, or the second where it was used before: the first would have to be
        compiled."""
        short = [length for length in _SHORT if longest <= length <= self._whole]
        length = min(self._used.intersection(short), default=_few_length(longest, self._whole))
        self._used.add(length)
        return length


def _cost(sizes: Sequence[int], lengths: Sequence[int], whole: int) -> float:
    """What sentences of these sizes cost, in tokens of a full batch with its pads."""
    return sum(
        min((length for length in lengths if size <= length), default=_SLOW * _few_length(size, whole))
        for size in sizes
    )


def common_lengths(sizes: Sequence[int], longest: int) -> tuple[int, int]:
    """Two lengths, multiples of 8, with which sentences of these sizes cost least if each takes the shorter
    one that it fits into, and those that fit into neither are computed few at a time."""
    whole, ordered = rounded(longest), np.sort(np.asarray(sizes))
    lengths = np.arange(8, whole + 1, 8)
    fits = np.searchsorted(ordered, lengths, side="right")
    few = np.array([_few_length(size, whole) for size in ordered.tolist()])
    longer = _SLOW * np.append(np.cumsum(few[::-1])[::-1], 0)[fits]  # the cost of those that do not fit
    cost = fits[:, None] * lengths[:, None] + (fits - fits[:, None]) * lengths + longer
    first, second = np.unravel_index(np.where(lengths[:, None] <= lengths, cost, np.inf).argmin(), cost.shape)
    return int(lengths[first]), int(lengths[second])


def _few_length(size: int, whole: int) -> int:
    """The length of a batch of few sentences, the longest of which has so many tokens."""
    return min([length for length in _SHORT if size <= length <= whole], default=whole)


def rounded(length: int) -> int:
    """The next multiple of 8."""
    return -(-length // 8) * 8
