"""The tokenizer: RoBERTa's layout, exact size, and text that survives whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.builders import documents
from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import EOS
from tlc_jax.data.text_ids import encode_lines
from tlc_jax.data.tokenizer import load_tokenizer, train_tokenizer

SIZE = 300


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(documents(100), SIZE)


def test_layout_and_exact_size(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == SIZE
    specials = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    assert [tokenizer.token_to_id(token) for token in specials] == [0, 1, 2, 3, SIZE - 1]
    assert tokenizer.encode("a b").ids[0] == 0
    pair = tokenizer.encode("one", "two").ids
    middle = pair.index(2)
    assert pair[middle + 1] == 2, "<s> A </s></s> B </s>"
    assert pair[-1] == 2


@given(text=st.text(max_size=60))
def test_any_text_survives(tokenizer: Tokenizer, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    (ids,) = encode_lines(tokenizer, [text], np.dtype(np.uint16))
    assert ids[-1] == EOS
    assert (ids[:-1] >= 4).all(), "no special token comes out of text"
    assert (ids < SIZE - 1).all()
    assert tokenizer.decode(ids[:-1].tolist()) == text


def test_special_tokens_in_text_are_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    line = "an <s> and a <mask> in </s> a <pad> page"
    tokenizer.save(str(tmp_path / "t.json"))
    for one in (tokenizer, load_tokenizer(tmp_path / "t.json", SIZE)):
        (ids,) = encode_lines(one, [line], np.dtype(np.uint16))
        assert (ids[:-1] >= 4).all()
        assert (ids < SIZE - 1).all()


def test_training_is_deterministic(tokenizer: Tokenizer) -> None:
    assert train_tokenizer(documents(100), SIZE).to_str() == tokenizer.to_str()


def test_a_size_that_the_text_cannot_give() -> None:
    with pytest.raises(
        UserError,
        match=r"vocab_size is 5000, .* the largest that this text yields: set --model.vocab-size \d+",
    ):
        train_tokenizer(["a few words", "a few more"], 5000)
    with pytest.raises(UserError, match="vocab_size is 100, .* 261 is the smallest"):
        train_tokenizer(documents(5), 100)


def test_gpt2_gets_robertas_layout(tmp_path: Path) -> None:
    """GPT-2's files hold bytes, merges and <|endoftext|> last; RoBERTa adds four before, fill and <mask>."""
    gpt2 = Tokenizer(models.BPE())
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    gpt2.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=276, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    gpt2.train_from_iterator(documents(50), trainer)
    gpt2.add_special_tokens(["<|endoftext|>"])
    assert gpt2.get_vocab_size() == 277
    gpt2.save(str(tmp_path / "gpt2.json"))
    gpt2.model.save(str(tmp_path))
    vocabulary = json.loads((tmp_path / "vocab.json").read_text()) | {"<|endoftext|>": 276}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    size = -(-(4 + 277) // 8) * 8 + 1  # as 4 + 50257 becomes 50265
    for name in ("gpt2.json", "vocab.json"):
        moved = load_tokenizer(tmp_path / name, size)
        assert moved.token_to_id("<mask>") == size - 1
        assert moved.token_to_id("<|endoftext|>") == 276 + 4
        text = "The model keeps a large weight\u00e9"
        expected = [i + 4 for i in gpt2.encode(text).ids]
        assert encode_lines(moved, [text], np.dtype(np.uint16))[0][:-1].tolist() == expected
    assert -(-(4 + 50257) // 8) * 8 + 1 == 50265


def test_wrong_tokenizers_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "t.json"))
    with pytest.raises(UserError, match=f"vocab_size is 400 but the tokenizer .* has {SIZE}"):
        load_tokenizer(tmp_path / "t.json", 400)
    with pytest.raises(UserError, match="not a file"):
        load_tokenizer(tmp_path / "none.json", SIZE)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer file"):
        load_tokenizer(tmp_path / "bad.json", SIZE)
    half = Tokenizer(models.BPE())
    half.add_special_tokens(["<pad>", "<s>"])
    half.save(str(tmp_path / "half.json"))
    with pytest.raises(UserError, match="which token is for the end of a text and unknown text: name"):
        load_tokenizer(tmp_path / "half.json")
