"""Trimmed tokenizers: the same pieces of any text of the corpus, by the library that reads the file."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.builders import documents
from tests.data.encoder_tokenizers import KINDS, ODD, TEXTS, Files, opened
from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.text_ids import encode_texts
from tlc_jax.data.tokenizer_trimming import TrimmedVocabulary, trim_tokenizer

CORPUS = [*ODD[:4], *documents(1, seed=3)[0].split("\n")[1:]]


@functools.cache
def trimmed(path: Path, count: int) -> tuple[Tokenizer, Roles, TrimmedVocabulary, Tokenizer]:
    """The tokenizer of a file, its roles, what is left of it for so many texts, and that as the library reads
    it."""
    (tokenizer, roles), texts = opened(path), CORPUS[:count]
    used = {i for ids in encode_texts(tokenizer, texts, roles) for i in ids}
    special = {*roles.controls, roles.unknown}
    vocabulary = trim_tokenizer(tokenizer, used, special, roles.unknown, roles.vocab_size + 5)
    after = Tokenizer.from_str(vocabulary.tokenizer)
    after.encode_special_tokens = True
    return tokenizer, roles, vocabulary, after


@pytest.mark.parametrize("name", KINDS)
def test_texts_of_the_corpus_have_the_same_pieces(tokenizer_files: Files, name: str) -> None:
    """One text and two, with the special tokens around them, unknown words among them; fewer ids."""
    before, roles, vocabulary, after = trimmed(tokenizer_files[name], 6)
    assert after.get_vocab_size() == len(vocabulary.kept) < roles.vocab_size
    assert sorted(after.get_vocab().values()) == list(range(len(vocabulary.kept)))
    for first, second in itertools.pairwise(CORPUS[:6]):
        expected, found = before.encode(first, second), after.encode(first, second)
        assert found.tokens == expected.tokens
        assert found.type_ids == expected.type_ids
        np.testing.assert_array_equal(vocabulary.new_ids[expected.ids], found.ids)
        assert vocabulary.is_kept(np.array(expected.ids)).all()


@pytest.mark.parametrize("name", KINDS)
@given(text=TEXTS)
def test_any_other_text_falls_into_kept_pieces(tokenizer_files: Files, name: str, text: str) -> None:
    """Nothing more becomes unknown where the tokenizer has characters, and the text is all there."""
    before, roles, vocabulary, after = trimmed(tokenizer_files[name], 3)
    expected, found = before.encode(text), after.encode(text)
    unknown = int(vocabulary.new_ids[roles.unknown])
    if name == "word_level":  # a word that is gone is unknown, and nothing else changes
        np.testing.assert_array_equal(vocabulary.new_ids[expected.ids], found.ids)
    else:
        assert (unknown in found.ids) == (roles.unknown in expected.ids)
        assert after.decode(found.ids) == before.decode(expected.ids)


@pytest.mark.parametrize("name", KINDS)
def test_roles_are_those_of_the_trimmed_file(tokenizer_files: Files, name: str, tmp_path: Path) -> None:
    """As they are read from the file of the artifact."""
    _, roles, vocabulary, _ = trimmed(tokenizer_files[name], 6)
    (tmp_path / "tokenizer.json").write_text(vocabulary.tokenizer, encoding="utf-8")
    _, read = opened(tmp_path / "tokenizer.json")
    assert roles.renumbered(vocabulary.new_ids.tolist(), vocabulary.kept.tolist()) == read
    assert json.loads(vocabulary.tokenizer)["truncation"] is None


def test_an_unknown_word_stays_unknown() -> None:
    """'abc' is unknown, since 'c' is no piece; without 'ab' it would be 'a' and 'bc'."""
    pieces = ["[UNK]", "a", "ab", "##b", "##bc", "x", "y", "xy", "##y", "xbc"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = ["abc x", "xbc", "y", "abb"]
    assert tokenizer.encode("abc").tokens == ["[UNK]"]
    for corpus in (texts[:1], [*texts[:3], "ybc"], texts):
        used = {i for text in corpus for i in tokenizer.encode(text).ids}
        after = Tokenizer.from_str(trim_tokenizer(tokenizer, used, {0}, 0, len(pieces)).tokenizer)
        for text in corpus:
            assert after.encode(text).tokens == tokenizer.encode(text).tokens, text


def test_a_tokenizer_whose_ids_have_gaps_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 2, "[UNK]": 3}, unk_token="[UNK]"))
    tokenizer.add_tokens(["c"])
    vocabulary = tokenizer.get_vocab()
    assert vocabulary["c"] == 3, "the library gives a number twice"
    with pytest.raises(UserError, match="cannot be trimmed, since its ids do not follow each other"):
        trim_tokenizer(tokenizer, {0, 3}, {3}, 3, 5)
