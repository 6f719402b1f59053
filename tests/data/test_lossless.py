"""Tokenizers of others keep every text and give the ids that their own library gives, or are refused."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.builders import documents
from tlc_jax.config import DataConfig
from tlc_jax.core.errors import UserError
from tlc_jax.data.lossless import normalizer_of
from tlc_jax.data.text.text_packing import prepare_text
from tlc_jax.data.text_ids import encode_lines
from tlc_jax.data.tokenizer import ROBERTA, given_tokenizer, load_tokenizer, train_tokenizer

MERGES = ["Ġ t", "h e", "Ġt he", "i n", "e r", "in g", "Ġ a", "Ã ©", "Ġ Ġ", "c a", "ca f"]
TEXTS = ["the cat sat in the caf\u00e9, here", " the  end\t<s> 42<mask>", "\u65e5\u672c \U0001f600"]
# what version 0.1.0 made of TEXTS with each of the files below
GOLDEN = [
    [87, 261, 224, 269, 87, 224, 86, 68, 87, 224, 263, 262, 224, 270, 267, 15, 224, 261, 85, 72, 2],
    [262, 224, 224, 72, 81, 71, 201, 31, 86, 33, 224, 23, 21, 31, 80, 68, 86, 78, 33, 2],
    [166, 249, 102, 166, 254, 109, 224, 176, 257, 250, 226, 2],
]
State = dict[str, Any]


def byte_level(first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*first, *alphabet, *(merge.replace(" ", "") for merge in MERGES), *last]
    pairs = [tuple(merge.split(" ")) for merge in MERGES]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(entries)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """tokenizer.json of RoBERTa and GPT-2 in small."""
    roberta = byte_level(ROBERTA.tokens, ("<mask>",))
    roberta.add_special_tokens([*ROBERTA.special])
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    gpt2 = byte_level(last=("<|endoftext|>",))
    gpt2.add_special_tokens(["<|endoftext|>"])
    return {"roberta": json.loads(roberta.to_str()), "gpt2": json.loads(gpt2.to_str())}


def written(folder: Path, state: State) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(state), encoding="utf-8")
    return path


def ids(tokenizer: Tokenizer) -> list[list[int]]:
    return [line.tolist() for line in encode_lines(tokenizer, TEXTS, np.dtype(np.uint16))]


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
def test_ids_are_what_they_were(states: dict[str, State], tmp_path: Path, name: str) -> None:
    tokenizer, digest = given_tokenizer(path := written(tmp_path, states[name]))
    assert ids(tokenizer) == ids(load_tokenizer(path)) == GOLDEN
    path.write_text(f"{path.read_text(encoding='utf-8')} ", encoding="utf-8")
    assert given_tokenizer(path)[1] != digest


def test_gpt2s_two_files_are_both_in_the_digest(states: dict[str, State], tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(states["gpt2"]["model"]["vocab"]), encoding="utf-8")
    merges = tmp_path / "merges.txt"
    merges.write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")
    tokenizer, digest = given_tokenizer(tmp_path / "vocab.json")
    assert ids(tokenizer) == GOLDEN
    merges.write_text("\r\n".join(["#version: 0.2", *MERGES[:-1], ""]), encoding="utf-8")
    other, changed = given_tokenizer(tmp_path / "vocab.json")
    assert changed != digest
    assert ids(other) != GOLDEN
    merges.write_text("#version: 0.2\nĠ t\nhe\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 3 of merges.txt is not two tokens"):
        given_tokenizer(tmp_path / "vocab.json")
    merges.write_text("", encoding="utf-8")
    (tmp_path / "vocab.json").write_text('"/etc/passwd"', encoding="utf-8")
    with pytest.raises(UserError, match=r"not a tokenizer file: .*dictionary"):
        given_tokenizer(tmp_path / "vocab.json")


def test_a_prefix_space_of_the_file_stays(states: dict[str, State], tmp_path: Path) -> None:
    state = copy.deepcopy(states["roberta"])
    state["pre_tokenizer"]["add_prefix_space"] = True
    assert ids(given_tokenizer(written(tmp_path, state))[0])[0][:3] == [262, 224, 269]


def test_added_tokens_and_splits_of_a_file_stay(states: dict[str, State], tmp_path: Path) -> None:
    """Its own library gives the same ids, but for the four in front."""
    state = copy.deepcopy(states["gpt2"])
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}| ?\p{L}+|\s+|."}, "behavior": "Isolated"}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split | {"invert": False}, level]}
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    state["model"]["vocab"]["sat in"] = 268
    state["added_tokens"].append(token | {"id": 268, "content": "sat in"})
    path = written(tmp_path, state)
    expected = Tokenizer.from_file(str(path)).encode(TEXTS[0]).ids
    assert 268 in expected
    assert ids(given_tokenizer(path)[0])[0] == [*(i + 4 for i in expected), 2]


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
@pytest.mark.parametrize(
    "asked",
    [
        {"truncation": {"max_length": 8, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}},
        {
            "padding": {
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<pad>",
            }
        },
    ],
)
def test_nothing_is_cut_or_padded(states: dict[str, State], tmp_path: Path, name: str, asked: State) -> None:
    tokenizer, _ = given_tokenizer(written(tmp_path, states[name] | asked))
    assert ids(tokenizer) == GOLDEN
    assert json.loads(tokenizer.to_str())["truncation"] is json.loads(tokenizer.to_str())["padding"] is None


def test_special_tokens_that_are_not_marked_are_text(states: dict[str, State], tmp_path: Path) -> None:
    state = copy.deepcopy(states["roberta"])
    for token in state["added_tokens"]:
        token["special"] = False
    assert ids(given_tokenizer(written(tmp_path, state))[0]) == GOLDEN


def _component(**parts: Any) -> Callable[[State], None]:
    return lambda state: state.update(parts)


def _model(**parts: Any) -> Callable[[State], None]:
    return lambda state: state["model"].update(parts)


def _without_a_byte(state: State) -> None:
    vocabulary = state["model"]["vocab"]
    vocabulary["another"] = vocabulary.pop("~")


def _rename_token(state: State) -> None:
    vocabulary = state["model"]["vocab"]
    vocabulary["x" * 10_001] = vocabulary.pop("~")


def _greedy_token(state: State) -> None:
    token = {"single_word": False, "rstrip": False, "normalized": False, "special": False}
    greedy = {"id": state["model"]["vocab"]["Z"], "content": "Z", "lstrip": True}
    state["added_tokens"].append(token | greedy)


_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_REMOVED = {"type": "Split", "pattern": {"String": "q"}, "behavior": "Removed", "invert": False}


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_component(normalizer={"type": "Lowercase"}), r"its normalizer \(Lowercase\) changes text"),
        (_component(normalizer={"type": "NFC"}), r"normalizer \(NFC\) .* set \"normalizer\" to null"),
        (
            _component(normalizer={"type": "Sequence", "normalizers": [{"type": "StripAccents"}]}),
            r"normalizer \(StripAccents\)",
        ),
        (
            _component(pre_tokenizer={"type": "Whitespace"}),
            r"not byte-level \(its .* is Whitespace",
        ),
        (_component(pre_tokenizer=None), r"not byte-level \(its pre_tokenizer is none"),
        (
            _component(pre_tokenizer={"type": "Sequence", "pretokenizers": [_REMOVED, _LEVEL]}),
            "pre_tokenizer Split removes parts of the text",
        ),
        (
            _component(
                pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, _LEVEL]}
            ),
            "pre_tokenizer WhitespaceSplit removes",
        ),
        (_model(dropout=0.1), r"dropout 0.1\): set \"dropout\" to null"),
        (_model(end_of_word_suffix="</w>"), "marked as parts of words"),
        (_without_a_byte, "1 of the 256 bytes have no token, such as '~'"),
        (_greedy_token, r"'Z' removes the spaces beside it"),
    ],
)
def test_who_loses_text_is_refused(
    states: dict[str, State], tmp_path: Path, name: str, change: Callable[[State], None], says: str
) -> None:
    state = copy.deepcopy(states[name])
    change(state)
    with pytest.raises(UserError, match=rf"tokenizer.json does not keep every text: .*{says}"):
        given_tokenizer(written(tmp_path, state))


def test_a_post_processor_that_drops_the_text_is_refused(states: dict[str, State], tmp_path: Path) -> None:
    state = copy.deepcopy(states["roberta"])
    state["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    with pytest.raises(UserError, match="does not put a special token before a text and one after it"):
        given_tokenizer(written(tmp_path, state))


def tour(folder: Path) -> Path:
    """The BPE of the quick tour of Hugging Face's tokenizers, in RoBERTa's layout."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [*ROBERTA.tokens]
    trainer = trainers.BpeTrainer(vocab_size=99, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator((text.lower() for text in documents(40)), trainer)
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.save(str(folder / "tour.json"))
    return folder / "tour.json"


def test_unknown_tokens_are_refused_or_counted(corpus: Path, tmp_path: Path) -> None:
    """A model may have been trained with such a tokenizer: what it is evaluated on has a count."""
    path = tour(tmp_path)
    size = Tokenizer.from_file(str(path)).get_vocab_size()
    config = DataConfig(
        dir=str(corpus), cache_dir=str(tmp_path / "cache"), sequence_length=16, tokenizer=str(path)
    )
    with pytest.raises(UserError, match="tour.json does not keep every text: it is not byte-level"):
        prepare_text(config, size, Console(quiet=True))
    console = Console(record=True, width=200)
    packed = prepare_text(config, size, console, to_train=False)
    rows = {split: np.asarray(packed.rows(split)) for split in ("train", "held_out")}
    expected = {split: int((each == ROBERTA.unknown).sum()) for split, each in rows.items()}
    assert packed.manifest["unknown"] == expected
    assert expected["train"] > 0
    assert f"unknown: {sum(expected.values()):,} of" in console.export_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a tokenizer file"),
        (b"{}", "not a tokenizer file"),
        (b"[" * 100_000, "not a tokenizer file"),
        (
            b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}',
            "not a tokenizer",
        ),
        ('{"caf\u00e9": 1}'.encode("latin-1"), "not a tokenizer file: 'utf-8' codec"),
    ],
)
def test_what_is_no_tokenizer_is_a_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=says):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_only_files_of_a_tokenizers_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(UserError, match="not a regular file"):
            load_tokenizer(path)
    with pytest.raises(UserError, match=r"is a folder: name the tokenizer.json in it"):
        load_tokenizer(tmp_path)
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(UserError, match="larger than the 67,108,864 bytes"):
        load_tokenizer(tmp_path / "large.json")


def test_ids_stay_below_the_size(states: dict[str, State], tmp_path: Path) -> None:
    state = copy.deepcopy(states["roberta"])
    vocabulary = state["model"]["vocab"]
    vocabulary["~"] = 70_000
    with pytest.raises(UserError, match=r"has 272 entries, but an id 70000"):
        load_tokenizer(written(tmp_path, state))


def _replace(content: str) -> State:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": content}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_component(normalizer=_replace("x" * 10**6)), "its normalizer Replace may make a text 1,000,000"),
        (
            _component(normalizer={"type": "Sequence", "normalizers": [_replace("xxxxx")] * 2}),
            "normalizer Replace may make a text 25 times longer",
        ),
        (_component(normalizer={"type": "Prepend", "prepend": "x" * 10**6}), "Prepend puts 1,000,000"),
        (
            _component(normalizer={"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 5}),
            "normalizer ByteLevel may make a text 32 times",
        ),
        (
            _component(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}),
            "normalizer has 100 steps",
        ),
        (
            _component(pre_tokenizer={"type": "Sequence", "pretokenizers": [_LEVEL] * 30}),
            "pre_tokenizer ByteLevel may make a text 32 times",
        ),
        (_component(decoder=_replace("x" * 10**6)), "its decoder Replace may make"),
        (
            _component(
                decoder={
                    "type": "Sequence",
                    "decoders": [{"type": "Fuse"}, {"type": "Sequence", "decoders": [_replace("x" * 17)]}],
                }
            ),
            "its decoder Replace may make a text 17 times",
        ),
        (_rename_token, "a token of 10,001 characters"),
    ],
)
def test_who_makes_text_many_times_longer_is_refused(
    states: dict[str, State], tmp_path: Path, change: Callable[[State], None], says: str
) -> None:
    state = copy.deepcopy(states["gpt2"])
    change(state)
    path = written(tmp_path, state)
    for load in (load_tokenizer, given_tokenizer):
        with pytest.raises(UserError, match=rf"tokenizer.json is not used: .*{says}"):
            load(path)


def test_usual_normalizers_and_decoders_still_load(states: dict[str, State], tmp_path: Path) -> None:
    """A run may have been made with them."""
    usual = [{"type": kind} for kind in ("Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Nmt")]
    usual += [{"type": "Prepend", "prepend": "\u2581"}, _replace("\u2581")]
    llama = [_replace(" "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    llama += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    state = copy.deepcopy(states["roberta"])
    state["normalizer"] = {"type": "Sequence", "normalizers": usual}
    for decoder in (None, {"type": "Sequence", "decoders": llama}, {"type": "BPEDecoder", "suffix": "</w>"}):
        state["decoder"] = decoder
        tokenizer = load_tokenizer(written(tmp_path, state))
        assert tokenizer.get_vocab_size() == 272
        assert (normalizer_of(tokenizer) or "").startswith("Lowercase, NFC, NFD")
    state["normalizer"] = None
    assert normalizer_of(load_tokenizer(written(tmp_path, state))) is None


def test_a_panic_of_the_library_is_a_sentence(states: dict[str, State], tmp_path: Path) -> None:
    state = copy.deepcopy(states["roberta"])
    forever = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [forever, _LEVEL]}
    tokenizer = load_tokenizer(written(tmp_path, state))
    with pytest.raises(UserError, match="the tokenizer cannot encode the text .*retry-limit"):
        encode_lines(tokenizer, ["a" * 60 + "b"], np.dtype(np.uint16))
    state["model"]["continuing_subword_prefix"] = "##"
    with pytest.raises(UserError, match="not a tokenizer file"):
        load_tokenizer(written(tmp_path, state))


def test_one_long_word_is_learned_from_in_time() -> None:
    """Uncut, the time of the trainer is quadratic in a word's length: minutes for this one."""
    letters = np.random.default_rng(0).choice(list("abcdefghij"), 300_000)
    tokenizer = train_tokenizer(["".join(letters), "-_" * 100_000, " " * 100_000], 400)
    assert tokenizer.get_vocab_size() == 400


def test_usual_text_is_learned_from_as_it_is() -> None:
    """Nothing is cut where no word has more than 256 letters."""
    texts = ["a" * 256 + " " + "b" * 256, "\u4e2d\u6587" * 128, *documents(50)]
    plain = Tokenizer(models.BPE(unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=399,
        min_frequency=0,
        special_tokens=[*ROBERTA.tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    plain.train_from_iterator(texts, trainer)
    ours = json.loads(train_tokenizer(texts, 400).to_str())["model"]
    assert ours["merges"] == json.loads(plain.to_str())["model"]["merges"]
