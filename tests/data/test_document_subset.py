"""A share of packed text against documents that are packed here one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlc_jax.core.vocabulary import BOS, EOS, PAD, roberta_roles
from tlc_jax.data.text import document_subset
from tlc_jax.data.text.document_subset import DocumentSubset, document_ends

ROLES = roberta_roles(2**16)
BODY = 7  # tokens of a row without its <s>
DOCUMENTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=40)
"""The lengths of the lines of each document."""


def written(documents: list[list[int]]) -> tuple[list[list[int]], np.ndarray]:
    """The tokens of each document, none of which occurs twice, and the rows of all."""
    texts, token = [], 4
    for lines in documents:
        text: list[int] = []
        for length in lines:
            text += [*range(token, token + length), EOS]
            token += length
        texts.append([*text, EOS])
    text = [token for each in texts for token in each]
    text += [PAD] * (-len(text) % BODY)
    rows = [[BOS, *text[start : start + BODY]] for start in range(0, len(text), BODY)]
    return texts, np.array(rows, np.uint16)


def subset(documents: list[list[int]], share: float) -> list[list[int]]:
    texts, rows = written(documents)
    chosen = DocumentSubset(rows, sum(map(len, texts)), share, ROLES)
    assert chosen.shape == (len(chosen), BODY + 1)
    return chosen[:].tolist()


def split(text: list[int]) -> list[list[int]]:
    """The documents of a text; the last one may be cut."""
    parts: list[list[int]] = [[]]
    for before, token in zip([0, *text], text, strict=False):
        parts[-1].append(token)
        if before == token == EOS:
            parts.append([])
    return [part for part in parts if part]


@given(DOCUMENTS, st.integers(1, 50))
def test_documents_end_where_they_were_written(documents: list[list[int]], chunk: int) -> None:
    texts, rows = written(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_subset, "_CHUNK", chunk)
        ends = document_ends(rows, sum(map(len, texts)), ROLES)
    assert ends.tolist() == np.cumsum([len(text) for text in texts]).tolist()


@given(DOCUMENTS, st.floats(0.01, 0.99))
def test_a_subset_holds_whole_documents_once_but_for_the_last(
    documents: list[list[int]], share: float
) -> None:
    texts, _ = written(documents)
    rows = subset(documents, share)
    total = sum(map(len, texts))
    assert len(rows) == max(1, min(round(share * total / BODY), total // BODY))
    assert all(row[0] == BOS for row in rows)
    text = [token for row in rows for token in row[1:]]
    if total < BODY:
        text = text[:total]
    *whole, last = split(text)
    left = list(texts)
    for document in whole:
        left.remove(document)  # ValueError where it is no document, or comes a second time
    assert any(document[: len(last)] == last for document in left)


@settings(max_examples=50)
@given(DOCUMENTS, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_smaller_share_is_the_beginning_of_a_larger_one(
    documents: list[list[int]], one: float, other: float
) -> None:
    smaller, larger = subset(documents, min(one, other)), subset(documents, max(one, other))
    assert larger[: len(smaller)] == smaller


def test_documents_are_chosen_from_everywhere() -> None:
    """One in twenty of 2,000 documents of one length: of each quarter about 25 are chosen."""
    texts, rows = written([[5]] * 2000)
    chosen = DocumentSubset(rows, sum(map(len, texts)), 0.05, ROLES)
    firsts = {text[0]: number for number, text in enumerate(texts)}
    numbers = [firsts[token] for token in chosen[:].ravel().tolist() if token in firsts]
    counts = np.bincount(np.array(numbers) // 500, minlength=4)
    assert counts.sum() == 100
    assert counts.min() >= 12  # fewer in a quarter have a probability of 3e-4


def test_rows_are_given_in_any_order() -> None:
    _, rows = written([[3, 4], [9], [2, 2, 2], [8, 8]] * 9)
    chosen = DocumentSubset(rows, rows[:, 1:].size, 0.5, ROLES)
    order = np.array([3, 0, 3, 1])
    np.testing.assert_array_equal(chosen[order], chosen[:][order])
