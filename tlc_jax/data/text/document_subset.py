"""A share of packed text: whole documents in a random order, packed again into rows.

Stored rows are running text, so a document begins anywhere in a row. It ends with two </s> (text_packing.py),
which is where it is taken out; nothing is copied but the rows that are asked for. The order of documents is
always the same, and the subset is its beginning: the rows of a smaller share are the first rows of a larger
one. The last document is cut where the share ends.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int

from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.batches import in_fixed_order
from tlc_jax.data.bucketing import Indices
from tlc_jax.data.text.packed_text import Rows

_CHUNK = 1 << 22  # tokens that are searched at a time


class DocumentSubset:
    """Rows of a `share` of the documents of packed text, of which `tokens` are neither <s> nor pads."""

    def __init__(self, rows: Rows, tokens: int, share: float, roles: Roles):
        self._rows, self._body, self._roles = rows, rows.shape[1] - 1, roles
        count = min(round(share * tokens / self._body), tokens // self._body)
        self.shape = (max(1, count), rows.shape[1])
        ends = document_ends(rows, tokens, roles)
        starts = np.concatenate([[0], ends[:-1]])
        order = in_fixed_order(np.arange(len(ends)), len(ends))
        after = np.cumsum((ends - starts)[order])  # tokens of the documents up to each one
        last = np.searchsorted(after, len(self) * self._body) + 1
        self._after = after[:last]
        # what has to be added to a position in the subset for that in the whole text
        self._shift = (ends[order] - after)[:last]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | Indices) -> Rows:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        position = index[:, None] * self._body + np.arange(self._body)
        document = np.searchsorted(self._after, position, side="right")
        real = document < len(self._after)  # a text shorter than a row ends in it
        position = position + self._shift[np.where(real, document, 0)]
        rows = np.full((len(index), self._body + 1), self._roles.pad, self._rows.dtype)
        rows[:, 0] = self._roles.begin
        rows[:, 1:][real] = self._rows[position[real] // self._body, 1 + position[real] % self._body]
        return rows


def document_ends(rows: Rows, tokens: int, roles: Roles) -> Int[np.ndarray, "documents"]:
    """The positions behind each document of the text that the rows hold, in which <s> and pads do not count;
    behind the last one is the end of the text."""
    body = rows.shape[1] - 1
    size = max(1, _CHUNK // body)
    ends, before = [], False
    for start in range(0, len(rows), size):
        is_end = (rows[start : start + size, 1:] == roles.end).ravel()
        second = is_end & np.concatenate([[before], is_end[:-1]])
        before = bool(is_end[-1])
        ends.append(start * body + 1 + np.flatnonzero(second))
    positions = np.concatenate(ends)
    return positions if len(positions) and positions[-1] == tokens else np.append(positions, tokens)
