"""Which texts stand inside which: against a search through all of them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.core import stopping
from tlc_jax.core.errors import Interrupted
from tlc_jax.data.labelled.phrase_splits import WORDS, longest_holders

TEXTS = st.lists(st.lists(st.sampled_from(["a", "b", "cd"]), max_size=12).map(" ".join), max_size=20)


@given(TEXTS)
def test_the_longest_text_that_holds_it(texts: list[str]) -> None:
    for text, holder in zip(texts, longest_holders(texts), strict=True):
        holders = [other for other in texts if f" {text} " in f" {other} "]
        if len(text.split()) < WORDS:
            assert holder == text
        else:
            assert holder == min(holders, key=lambda other: (-len(other.split()), other))


def test_whole_words_only() -> None:
    texts = ["a fine and quiet film", "fine and quiet film", "a fine and quiet filmmaker", "quiet film"]
    assert longest_holders(texts) == [texts[0], texts[0], texts[2], texts[3]]


def test_spaces_do_not_matter() -> None:
    texts = ["it is all so very  dull ", "all so  very dull"]
    assert longest_holders(texts) == [texts[0], texts[0]]


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["one beginning", "one word", "one end", "each in the next"])
def test_the_time_grows_with_the_words_whatever_they_have_in_common(shape: str) -> None:
    """Each of these took more than a minute by looking through all texts with an equal beginning."""
    texts = {
        "one beginning": [f"in the middle of {i} {i * 7} {i * i}" for i in range(40_000)],
        "one word": ["a " * length for length in range(4, 800)],
        "one end": ["a " * length + "b" for length in range(4, 800)],
        "each in the next": [" ".join(map(str, range(start, 1000))) for start in range(900)],
    }[shape]
    started = time.monotonic()
    holders = longest_holders(texts)
    assert time.monotonic() - started < 20
    if shape == "one beginning":
        assert holders == texts
    else:
        longest = max(texts, key=len)
        assert set(holders) == {longest}


def test_a_request_to_stop_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_requested", True)
    with pytest.raises(Interrupted):
        longest_holders(["a b c d e", "b c d e"])
