"""Which texts stand inside which: against a search through all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.data.families import WORDS, families

TEXTS = st.lists(st.lists(st.sampled_from("ab"), max_size=9).map(" ".join), max_size=12)


@given(TEXTS)
def test_the_longest_text_that_holds_it(texts: list[str]) -> None:
    for text, found in zip(texts, families(texts), strict=True):
        holders = [other for other in texts if f" {text} " in f" {other} "]
        if len(text.split()) < WORDS:
            assert found == text
        else:
            assert found == min(holders, key=lambda other: (-len(other.split()), other))


def test_whole_words_only() -> None:
    texts = ["a fine and quiet film", "fine and quiet film", "a fine and quiet filmmaker", "quiet film"]
    assert families(texts) == [texts[0], texts[0], texts[2], texts[3]]


def test_spaces_do_not_matter() -> None:
    texts = ["it is all so very  dull ", "all so  very dull"]
    assert families(texts) == [texts[0], texts[0]]
