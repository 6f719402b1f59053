"""Byte-level BPE in RoBERTa's id layout (<s> 0, <pad> 1, </s> 2, <unk> 3, ..., <mask> last), or in that of
translation (<pad> 0, </s> 1, <unk> 2, ...)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tlc_jax.core.errors import UserError
from tlc_jax.core.place import Place, locate
from tlc_jax.core.vocabulary import (
    BOS,
    EOS,
    MASK_TOKEN,
    SPECIAL_TOKENS,
    TRANSLATION_EOS,
    TRANSLATION_TOKENS,
    TRANSLATION_UNK,
    UNK,
)


@dataclass(frozen=True)
class Layout:
    """The special tokens, from id 0 on; which of them ends a text and which is unknown; one that comes
    last."""

    tokens: tuple[str, ...]
    end: int
    unknown: int
    last: str | None

    def __str__(self) -> str:
        found = [f"{token} {i}" for i, token in enumerate(self.tokens)]
        return ", ".join([*found, f"{self.last} last"] if self.last else found)


ROBERTA = Layout(SPECIAL_TOKENS, EOS, UNK, MASK_TOKEN)
TRANSLATION = Layout(TRANSLATION_TOKENS, TRANSLATION_EOS, TRANSLATION_UNK, None)


def train_tokenizer(texts: Iterable[str], vocab_size: int, layout: Layout = ROBERTA) -> Tokenizer:
    """A byte-level BPE of exactly `vocab_size` entries, trained on `texts`; any UTF-8 text survives it."""
    tokenizer, last = _byte_level(models.BPE(unk_token=layout.tokens[layout.unknown])), bool(layout.last)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - last,
        min_frequency=0,
        special_tokens=list(layout.tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size - last:
        size = tokenizer.get_vocab_size() + last
        limit = "is the least with all bytes" if size > vocab_size else "is all that this text gives"
        raise UserError(
            f"model.vocab_size is {vocab_size}, but a byte-level BPE of {size} {limit}: "
            f"set --model.vocab-size {size} or give --data.tokenizer"
        )
    if layout.last:
        return _finish(tokenizer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: str | Place, vocab_size: int | None = None, layout: Layout = ROBERTA) -> Tokenizer:
    """Loads `tokenizer.json`, or GPT-2's `vocab.json` with `merges.txt` beside it (these locally).

    A vocabulary without RoBERTa's special tokens is moved up by four ids, filled with
    `madeupword` entries to a multiple of eight and closed by <mask>, as fairseq does it: GPT-2's
    50257 entries become RoBERTa's 50265. Raises UserError if the size is not `vocab_size`.
    """
    path = locate(path).expanduser()
    if not path.is_file():
        raise UserError(f"data.tokenizer names {path}, which is not a file")
    try:
        merges = path.with_name("merges.txt")
        if path.name == "vocab.json" and merges.is_file():
            tokenizer = _byte_level(models.BPE.from_file(str(path), str(merges)))
        else:
            tokenizer = Tokenizer.from_str(path.read_text())
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"data.tokenizer names {path}, which is no tokenizer file: {error}") from error
    ids = [tokenizer.token_to_id(token) for token in layout.tokens]
    last = tokenizer.token_to_id(layout.last) if layout.last else None
    fits = layout.last is None or last == tokenizer.get_vocab_size() - 1
    if ids == list(range(len(layout.tokens))) and fits:
        tokenizer.encode_special_tokens = True
    elif layout is ROBERTA and ids == [None] * len(ids):
        tokenizer = _with_roberta_layout(tokenizer, path)
    else:
        found = dict(zip(layout.tokens, ids, strict=True)) | ({layout.last: last} if layout.last else {})
        none = ", or none of them" if layout is ROBERTA else ""
        raise UserError(f"the tokenizer {path} has special tokens at {found}; wanted {layout}{none}")
    if vocab_size is not None and tokenizer.get_vocab_size() != vocab_size:
        raise UserError(
            f"model.vocab_size is {vocab_size} but the tokenizer {path} has {tokenizer.get_vocab_size()} "
            "entries: make them equal"
        )
    return tokenizer


def encode_lines(
    tokenizer: Tokenizer, lines: list[str], dtype: np.dtype, layout: Layout = ROBERTA
) -> list[np.ndarray]:
    """Ids of each line, in parallel, with </s> at its end. Special tokens in the text are plain text."""
    encodings = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return [np.array([*encoding.ids, layout.end], dtype) for encoding in encodings]


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    """Adds <mask> as the last id and makes `encode` put <s> ... </s> around one text or two."""
    tokenizer.add_special_tokens([AddedToken(MASK_TOKEN, lstrip=True, special=True)])
    bos, eos = SPECIAL_TOKENS[BOS], SPECIAL_TOKENS[EOS]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, BOS), (eos, EOS)],
    )
    # "<s>" in a web page is five characters, not the start of a row
    tokenizer.encode_special_tokens = True
    return tokenizer


def _with_roberta_layout(tokenizer: Tokenizer, path: Place) -> Tokenizer:
    state = json.loads(tokenizer.to_str())["model"]
    if state.get("type") != "BPE":
        raise UserError(f"the tokenizer {path} is a {state.get('type')} model; a byte-level BPE is wanted")
    ids = tokenizer.get_vocab(with_added_tokens=True)
    entries = [*SPECIAL_TOKENS, *sorted(ids, key=ids.__getitem__)]
    entries += [f"madeupword{i:04d}" for i in range(-len(entries) % 8)]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in state["merges"])
    merges = [(left, right) for left, right in pairs]
    vocabulary = {token: i for i, token in enumerate(entries)}
    moved = _byte_level(models.BPE(vocab=vocabulary, merges=merges, unk_token=SPECIAL_TOKENS[UNK]))
    moved.add_special_tokens(list(SPECIAL_TOKENS))
    return _finish(moved)
