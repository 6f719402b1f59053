"""Tokenizers of pretrained encoders give the ids that their own library gives, and their special tokens are
known by what they are for."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tokenizers import processors

from tests.builders import write_corpus
from tests.data.encoder_tokenizers import (
    KINDS,
    TEXTS,
    Files,
    encode,
    library,
    opened,
    state,
    without,
    written,
)
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import roberta_roles
from tlc_jax.data.labelled.example_rows import encode_examples, fit
from tlc_jax.data.text.masking import MASKED, mask
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.data.text.two_sided_bigram import TwoSidedBigram
from tlc_jax.data.text_ids import encode_texts
from tlc_jax.data.tokenizer import encoder_tokenizer, given_tokenizer

QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    ("name", "special"),
    [
        ("bert", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
        ("xlm_roberta", ("<pad>", "<s>", "</s>", "<unk>", "<mask>")),
        ("roberta", ("<pad>", "<s>", "</s>", "<unk>", "<mask>")),
        ("modern_bert", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
        ("word_level", ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
    ],
)
def test_roles_are_those_of_the_file(tokenizer_files: Files, name: str, special: tuple[str, ...]) -> None:
    _, roles = opened(tokenizer_files[name])
    ids = (roles.pad, roles.begin, roles.end, roles.unknown, roles.mask)
    assert ids == tuple(library(tokenizer_files[name]).token_to_id(token) for token in special)
    assert roles.vocab_size == library(tokenizer_files[name]).get_vocab_size()
    assert roles.ours == (name == "roberta")
    if not roles.ours:
        added = library(tokenizer_files[name]).get_added_tokens_decoder()
        assert set(roles.never_drawn) == {i for i, token in added.items() if token.special}
        assert not set(roles.drawn) & set(roles.never_drawn)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=30)
@given(first=TEXTS, second=TEXTS)
def test_ids_and_types_are_those_of_its_library(
    tokenizer_files: Files, name: str, first: str, second: str
) -> None:
    (tokenizer, roles), expected = opened(tokenizer_files[name]), library(tokenizer_files[name])
    for texts in ((first,), (first, second)):
        [row] = encode_examples([texts], tokenizer, roles, 500)
        encoding = encode(expected, texts)
        assert row.ids.tolist() == encoding.ids
        assert (np.zeros(len(row.ids)) if row.types is None else row.types).tolist() == encoding.type_ids
        assert not row.truncated


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=40)
@given(first=TEXTS, second=TEXTS, length=st.integers(8, 30))
def test_pairs_are_truncated_as_by_its_library(
    tokenizer_files: Files, name: str, first: str, second: str, length: int
) -> None:
    """In RoBERTa's layout at even lengths only: our data of odd ones are older."""
    (tokenizer, roles), expected = opened(tokenizer_files[name]), library(tokenizer_files[name])
    length += length % 2 if roles.ours else 0
    expected.enable_truncation(max_length=length, strategy="longest_first")
    for texts in ((first,), (first, second)):
        [row] = encode_examples([texts], tokenizer, roles, length)
        assert row.ids.tolist() == encode(expected, texts).ids


@given(sizes=st.tuples(st.integers(0, 30), st.integers(0, 30)), room=st.integers(2, 40))
def test_the_longest_loses_a_token_at_a_time(sizes: tuple[int, int], room: int) -> None:
    kept = [len(part) for part in fit([[0] * size for size in sizes], room)]
    assert sum(kept) == min(room, sum(sizes))
    longer, shorter = sorted(sizes, reverse=True)
    expected = [longer, shorter]
    while sum(expected) > room:
        expected[0 if expected[0] > expected[1] else 1] -= 1
    assert sorted(kept, reverse=True) == expected


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_in_a_text_are_text(tokenizer_files: Files, name: str) -> None:
    """A Unigram and a WordLevel model know them as words, which become unknown."""
    tokenizer, roles = opened(tokenizer_files[name])
    special = [str(library(tokenizer_files[name]).id_to_token(i)) for i in roles.controls]
    [ids] = encode_texts(tokenizer, [f"a {' '.join(special)} model"], roles)
    assert not roles.controls & set(ids)
    assert len(ids) > len(special)


@pytest.mark.parametrize("name", KINDS)
def test_masks_and_random_tokens(tokenizer_files: Files, name: str) -> None:
    _, roles = opened(tokenizer_files[name])
    rng = np.random.default_rng(0)
    rows = rng.choice(roles.drawn[:-1], (2000, 20)).astype(np.uint16)
    rows[:, 0], rows[:, 12], rows[:, 13:] = roles.begin, roles.end, roles.pad
    batch = mask(rows, key=(0, 0), first_row=0, rate=0.5, roles=roles)
    row, slot = np.nonzero(batch["weights"])
    positions = batch["positions"][row, slot]
    assert positions.max() == 12, "pads are never predicted"
    inputs = batch["tokens"][row, positions]
    changed = inputs[inputs != batch["targets"][row, slot]]
    drawn = changed[changed != roles.mask]
    assert np.mean(inputs == roles.mask) == pytest.approx(MASKED, abs=0.02)
    assert len(drawn) > 500
    assert not set(drawn.tolist()) & set(roles.never_drawn)
    unmasked = batch["tokens"].copy()
    unmasked[row, positions] = batch["targets"][row, slot]
    assert (unmasked == rows).all()


def test_the_count_model_knows_what_is_drawn(tokenizer_files: Files) -> None:
    """Its probabilities sum to one beside the special tokens of any layout."""
    _, roles = opened(tokenizer_files["word_level"])
    few = dataclasses.replace(
        roles, vocab_size=9, pad=8, begin=0, end=5, unknown=6, mask=7, never_drawn=(0, 5, 6, 7, 8)
    )
    rows = np.random.default_rng(0).integers(0, 7, (9, 8))
    model, words = TwoSidedBigram(rows, few, 0.3), np.arange(9)
    left, token, right, target = (x.ravel() for x in np.meshgrid(words, words, words, words, indexing="ij"))
    possible = token != few.pad
    p = model.probability(left[possible], token[possible], right[possible], target[possible])
    assert p.reshape(-1, 9).sum(axis=1) == pytest.approx(1, rel=1e-12)


# --- files beside the tokenizer, and refusals ---------------------------------------------------------


def renamed(content: dict[str, Any], **names: str) -> dict[str, Any]:
    """A WordPiece tokenizer whose special tokens have other names, without a post-processor."""
    vocabulary = {names.get(token.strip("[]"), token): i for token, i in content["model"]["vocab"].items()}
    added = [
        {**each, "content": names.get(each["content"].strip("[]"), each["content"])}
        for each in content["added_tokens"]
    ]
    model = {**content["model"], "vocab": vocabulary, "unk_token": names.get("UNK", "[UNK]")}
    return {**content, "model": model, "added_tokens": added, "post_processor": None}


def test_files_beside_it_name_what_it_leaves_open(tokenizer_files: Files, tmp_path: Path) -> None:
    content = renamed(state(tokenizer_files["bert"]), CLS="[[A]]", SEP="[[B]]", PAD="[[P]]", MASK="[[M]]")
    names = {"cls_token": {"content": "[[A]]", "lstrip": False}, "sep_token": "[[B]]", "mask_token": None}
    config = {"pad_token": "[[P]]", "mask_token": "[[M]]", "tokenizer_class": "BertTokenizer", "sep_token": 3}
    path = written(tmp_path, content, special_tokens_map=names, tokenizer_config=config)
    tokenizer, roles = opened(path)
    assert roles == opened(tokenizer_files["bert"])[1]
    [row] = encode_examples([("a model", "of a")], tokenizer, roles, 50)
    assert row.ids.tolist() == library(tokenizer_files["bert"]).encode("a model", "of a").ids
    # prepared data, runs and artifacts keep tokenizer and names
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    data = DataConfig(
        dir=str(write_corpus(corpus, 40)),
        tokenizer=str(path),
        sequence_length=16,
        cache_dir=str(tmp_path / "c"),
    )
    packed = prepare_text(data, roles.vocab_size, QUIET, pretrained=True)
    assert opened(packed.folder / "tokenizer.json")[1] == packed.roles == roles
    assert packed.tokenizer().encode("a", "model").ids == tokenizer.encode("a", "model").ids


@pytest.mark.parametrize(
    ("kind", "pair"), [("RobertaTokenizerFast", 4), ("DistilBertTokenizer", 3), (None, 3)]
)
def test_the_class_says_how_two_texts_are_framed(
    tokenizer_files: Files, tmp_path: Path, kind: str | None, pair: int
) -> None:
    content = {**state(tokenizer_files["bert"]), "post_processor": None}
    path = written(tmp_path, content, tokenizer_config={"tokenizer_class": kind})
    _, roles = opened(path)
    assert roles.two is not None
    assert roles.two.size == pair
    assert roles.two.has_types == (pair == 3)


def _post_processor(processor: Any) -> Any:
    return lambda content: {**content, "post_processor": json.loads(processor.__getstate__())}


def _template(single: str, pair: str, *special: tuple[str, int]) -> Any:
    template = processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(special))
    return _post_processor(template)


@pytest.mark.parametrize(
    ("change", "beside", "says"),
    [
        (without("[SEP]"), {}, r"which token is for the end of a text: name it as sep_token in a special_"),
        (without("[PAD]"), {}, r"which token is for the pad: name it as pad_token"),
        (
            without("[CLS]", "[PAD]"),
            {},
            "the beginning of a text and the pad: name it as cls_token and pad_",
        ),
        (without("[UNK]"), {}, "which token is for unknown text: name it as unk_token"),
        (dict, {"special_tokens_map": {"pad_token": "[NONE]"}}, r"name '\[NONE\]' as pad_token, .* no such"),
        (
            dict,
            {"special_tokens_map": {"pad_token": "[SEP]"}},
            r"one token for several purposes \(ids: pad 4,",
        ),
        (dict, {"special_tokens_map": {"mask_token": "[CLS]"}}, "one token for several purposes"),
        (dict, {"special_tokens_map": ["[PAD]"]}, "special_tokens_map.json is not a JSON object"),
        (_template("$A [SEP]", "$A [SEP] $B [SEP]", ("[SEP]", 4)), {}, "does not put a special token before"),
        (_template("[CLS] $A", "[CLS] $A $B", ("[CLS]", 3)), {}, "does not put a special token before"),
        (_template("[CLS] $A:2 [SEP]", "$A $B", ("[CLS]", 3), ("[SEP]", 4)), {}, "token types than 0 and 1"),
        (_template("[CLS] $A [SEP]", "$A $B", ("[CLS]", 3), ("[SEP]", 4000)), {}, "the id 4000 beside texts"),
        (
            _template("[CLS] $A" + " [SEP]" * 40, "$A $B", ("[CLS]", 3), ("[SEP]", 4)),
            {},
            "41 special tokens beside texts, and at most 16",
        ),
        (
            _post_processor(processors.Sequence([processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))] * 2)),
            {},
            "has the post-processor BertProcessing, BertProcessing, of which",
        ),
    ],
)
def test_what_no_file_says_is_refused(
    tokenizer_files: Files, tmp_path: Path, change: Any, beside: dict[str, Any], says: str
) -> None:
    path = written(tmp_path, change(state(tokenizer_files["bert"])), **beside)
    with pytest.raises(UserError, match=says):
        opened(path)


def test_a_tokenizer_that_frames_no_pair_encodes_single_texts(tokenizer_files: Files, tmp_path: Path) -> None:
    change = _template("[CLS] $A [SEP]", "$A $B", ("[CLS]", 3), ("[SEP]", 4))
    tokenizer, roles = opened(written(tmp_path, change(state(tokenizer_files["bert"]))))
    assert [len(row.ids) > 2 for row in encode_examples([("a model",)], tokenizer, roles, 9)] == [True]
    with pytest.raises(UserError, match="does not say what it puts around two texts"):
        list(encode_examples([("a", "b")], tokenizer, roles, 9))
    with pytest.raises(UserError, match="sequence_length 2 leaves no room for text: raise it above 3"):
        list(encode_examples([("a",)], tokenizer, roles, 2))


def test_sizes(tokenizer_files: Files) -> None:
    """An embedding may have rows to spare, if it comes with the tokenizer; ids must be below its size."""
    size = library(tokenizer_files["bert"]).get_vocab_size()
    with pytest.raises(UserError, match=f"vocab_size is {size + 8} but the tokenizer .* has {size} entries"):
        encoder_tokenizer(tokenizer_files["bert"], size + 8, lossless=False)
    _, roles, _ = encoder_tokenizer(tokenizer_files["bert"], size + 8, lossless=False, exact=False)
    assert roles.vocab_size == size
    with pytest.raises(UserError, match=f"vocab_size is {size - 1} but the tokenizer .* has {size} entries"):
        encoder_tokenizer(tokenizer_files["bert"], size - 1, lossless=False, exact=False)
    with pytest.raises(UserError, match="does not keep every text: it is a WordPiece model"):
        given_tokenizer(tokenizer_files["bert"], size)


@pytest.mark.parametrize(("largest", "refused"), [(1000, False), (2**30 - 1, True)])
def test_ids_that_no_token_has(tokenizer_files: Files, tmp_path: Path, largest: int, refused: bool) -> None:
    """A few are never drawn; a file with one huge id does not take the memory of all below it."""
    content = state(tokenizer_files["bert"])
    size, vocabulary = len(content["model"]["vocab"]), content["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.__getitem__)
    vocabulary[last] = largest
    path = written(tmp_path, content)
    if refused:
        with pytest.raises(UserError, match=f"has {size} entries, but an id {largest}: number them from 0"):
            encoder_tokenizer(path, 2**30, lossless=False, exact=False)
        return
    _, roles, _ = encoder_tokenizer(path, 2000, lossless=False, exact=False)
    assert roles.drawn.tolist() == sorted(set(vocabulary.values()) - {0, 1, 2, 3, 4, 5})


@pytest.mark.parametrize(("longest", "refused"), [(33, False), (34, True)])
def test_rules_of_sentencepiece_have_a_bound(
    tokenizer_files: Files, tmp_path: Path, longest: int, refused: bool
) -> None:
    rules = (4).to_bytes(4, "little") + bytes(4) + b"a\0" + b"x" * longest + b"\0bb\0"
    charsmap = base64.b64encode(rules).decode()
    content = state(tokenizer_files["xlm_roberta"])
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    path = written(tmp_path, content)
    if refused:
        with pytest.raises(UserError, match="Precompiled may put 34 bytes in place of a character"):
            opened(path)
    else:
        assert opened(path)[1].pad == 4


def test_our_own_layout_is_the_default() -> None:
    roles = roberta_roles(300)
    assert roles.ours
    assert roles.one.ids([[7, 8]]) == [0, 7, 8, 2]
    assert roles.two is not None
    assert roles.two.ids([[7, 8], [9]]) == [0, 7, 8, 2, 2, 9, 2]
    assert roles.drawn.tolist() == list(range(4, 300))
