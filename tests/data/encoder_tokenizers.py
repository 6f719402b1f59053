"""Small tokenizers of the kinds that pretrained encoders have, made with the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tokenizers import (
    Encoding,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from tests.builders import documents
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.tokenizer import encoder_tokenizer

Files = dict[str, Path]
"""The tokenizer.json of each of KINDS."""
ODD = ["kernel size", "Caf\u00e9", "\u65e5\u672c", "\ufb01ne", "zzz", "\U0001f600", "."]
TEXTS = st.lists(st.sampled_from([*documents(3)[0].split()[:12], *ODD]), max_size=14).map(" ".join)
BERT = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert() -> Tokenizer:
    """Lowercased WordPiece; [CLS] A [SEP] B [SEP] with types 0 and 1."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=BERT, show_progress=False)
    tokenizer.train_from_iterator(documents(60), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 4), ("[CLS]", 3))
    return tokenizer


def xlm_roberta() -> Tokenizer:
    """Unigram, whose vocabulary has the special tokens as words, at other ids; <s> A </s></s> B </s>."""
    special = ["<unk>", "</s>", "<mask>", "<s>", "<pad>"]
    words = sorted({word for text in documents(60) for word in text.split()})[:150]
    letters = sorted({letter for text in documents(60) for letter in text if not letter.isspace()})
    scores = [(token, 0.0) for token in special]
    scores += [(f"\u2581{word}", -8.0 - i / 100) for i, word in enumerate(words)]
    scores += [("\u2581", -3.0), *((letter, -9.0) for letter in letters if letter not in "\u2581")]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 3), ("</s>", 1)]
    )
    return tokenizer


def _byte_level(size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents(60), trainer)
    return tokenizer


def roberta() -> Tokenizer:
    """Byte-level BPE in RoBERTa's layout, as transformers writes it: without a token of unknown text."""
    tokenizer = _byte_level(300, ["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def modern_bert() -> Tokenizer:
    """Byte-level BPE whose special tokens, and words that were added, are behind the model's vocabulary."""
    tokenizer = _byte_level(280, [])
    tokenizer.add_tokens(["kernel size"])
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[unused1]"])
    cls, sep = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="[CLS] $A [SEP]",
                pair="[CLS] $A [SEP] $B:1 [SEP]:1",
                special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
            ),
        ]
    )
    return tokenizer


def word_level() -> Tokenizer:
    """Lowercased words; the pair has types of 0 only, as DistilBERT takes none."""
    words = sorted({word.lower() for text in documents(60) for word in text.split()})
    vocabulary = ["[CLS]", *words[:120], "[SEP]", "[UNK]", *words[120:], "[MASK]", "[PAD]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[UNK]", "[MASK]", "[PAD]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 0), ("[SEP]", vocabulary.index("[SEP]"))],
    )
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bert": bert,
    "xlm_roberta": xlm_roberta,
    "roberta": roberta,
    "modern_bert": modern_bert,
    "word_level": word_level,
}


def write(tokenizer: Tokenizer, folder: Path) -> Path:
    """The tokenizer.json of a tokenizer, which asks for truncation and padding, as sentence-transformers'."""
    asking = Tokenizer.from_str(tokenizer.to_str())
    asking.enable_truncation(max_length=5)
    asking.enable_padding(length=64, pad_id=1, pad_token="nothing")
    folder.mkdir(parents=True, exist_ok=True)
    asking.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def library(path: Path) -> Tokenizer:
    """The tokenizer as its own library has it, but for truncation and padding."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer: Tokenizer, texts: tuple[str, ...]) -> Encoding:
    """One text or two with the special tokens around them."""
    return tokenizer.encode(texts[0], texts[1] if len(texts) == 2 else None)


def opened(path: Path) -> tuple[Tokenizer, Roles]:
    tokenizer, roles, _ = encoder_tokenizer(path, lossless=False)
    return tokenizer, roles


def state(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def written(folder: Path, content: dict[str, Any], **beside: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    for name, value in beside.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder / "tokenizer.json"


def without(*tokens: str) -> Any:
    def change(content: dict[str, Any]) -> dict[str, Any]:
        content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] not in tokens]
        kept = [token for token in content["model"]["vocab"] if token not in tokens]
        content["model"]["vocab"] = {token: i for i, token in enumerate(kept)}
        ids = content["model"]["vocab"]
        content["added_tokens"] = [{**each, "id": ids[each["content"]]} for each in content["added_tokens"]]
        return {**content, "post_processor": None}

    return change
