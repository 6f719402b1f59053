"""Byte-level BPE in RoBERTa's id layout (<s> 0, <pad> 1, </s> 2, <unk> 3, ..., <mask> last), or in that of
translation (<pad> 0, </s> 1, <unk> 2, ...)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.native import abandonable
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
from tlc_jax.data.lossless import loss
from tlc_jax.data.tokenizer_file import byte_level, guarded, is_of_library, read_tokenizer
from tlc_jax.storage.paths import AnyPath

_LONGEST_WORD = 256  # characters between two cuts of a text that a tokenizer is trained on
# longer than any word: the time of the trainer grows with the square of the length of a word
_MORE = f"{{{_LONGEST_WORD + 1},}}"
_LONG_BLANK = re.compile(rf"\s{_MORE}")
_LONG_RUN = re.compile(rf"\w{_MORE}|(?:[^\w\s]|_){_MORE}|\s{_MORE}")


@dataclass(frozen=True)
class Layout:
    """The special tokens from id 0 on, the ids of those for the end of a text and for unknown text, and a
    special token with the last id, if any."""

    tokens: tuple[str, ...]
    end: int
    unknown: int
    last: str | None

    @property
    def special(self) -> tuple[str, ...]:
        return (*self.tokens, self.last) if self.last else self.tokens

    def __str__(self) -> str:
        ids = [f"{token} {i}" for i, token in enumerate(self.tokens)]
        return ", ".join([*ids, f"{self.last} last"] if self.last else ids)


ROBERTA = Layout(SPECIAL_TOKENS, EOS, UNK, MASK_TOKEN)
TRANSLATION = Layout(TRANSLATION_TOKENS, TRANSLATION_EOS, TRANSLATION_UNK, None)


def train_tokenizer(texts: Iterable[str], vocab_size: int, layout: Layout = ROBERTA) -> Tokenizer:
    """A byte-level BPE of exactly `vocab_size` entries, trained on `texts`; it keeps any UTF-8 text.

    Runs of more than 256 letters, signs or spaces are cut for the training. Signals are obeyed."""
    tokenizer, last = byte_level(models.BPE(unk_token=layout.tokens[layout.unknown])), bool(layout.last)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - last,
        min_frequency=0,
        special_tokens=list(layout.tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = (piece for text in texts for piece in _without_long_words(text))
    abandonable(lambda: tokenizer.train_from_iterator(words, trainer))
    if tokenizer.get_vocab_size() != vocab_size - last:
        size = tokenizer.get_vocab_size() + last
        limit = "the smallest with all bytes" if size > vocab_size else "the largest that this text yields"
        raise UserError(
            f"model.vocab_size is {vocab_size}, but a byte-level BPE of {size} is {limit}: "
            f"set --model.vocab-size {size} or give --data.tokenizer"
        )
    if layout.last:
        return _finish(tokenizer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: str | AnyPath, vocab_size: int | None = None, layout: Layout = ROBERTA) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`, as in a run or an artifact, without the truncation and padding
    that it may ask for. Raises UserError for a file that is not a tokenizer, special tokens with other ids,
    or ids beyond its size or `vocab_size`."""
    tokenizer, path, _ = read_tokenizer(path)
    return _laid_out(tokenizer, path, vocab_size, layout)


def given_tokenizer(
    path: str | AnyPath, vocab_size: int | None = None, layout: Layout = ROBERTA, *, lossless: bool = True
) -> tuple[Tokenizer, str]:
    """The tokenizer that a user names, and the SHA-256 of what was read: a `tokenizer.json`, or GPT-2's
    `vocab.json` with `merges.txt` beside it.

    A vocabulary without RoBERTa's special tokens is moved up by four ids, filled with `madeupword` entries to
    a multiple of eight and ended by <mask>, as in fairseq: the 50257 entries of GPT-2 become the 50265 of
    RoBERTa. Raises UserError as `load_tokenizer` does, and for a tokenizer that loses text, unless `lossless`
    is False, for models that were trained with one.
    """
    tokenizer, path, digest = read_tokenizer(path)
    tokenizer = _laid_out(tokenizer, path, vocab_size, layout)
    if lossless and (reason := guarded(path, lambda: loss(tokenizer, layout.special))):
        raise UserError(f"the tokenizer {path} does not keep every text: {reason}")
    return tokenizer, digest


def encode_lines(
    tokenizer: Tokenizer, lines: list[str], dtype: np.dtype, layout: Layout = ROBERTA
) -> list[np.ndarray]:
    """The ids of each line with </s> at the end, encoded in parallel. Special tokens in a line are plain
    text. Signals are obeyed."""
    try:
        encodings = abandonable(lambda: tokenizer.encode_batch_fast(lines, add_special_tokens=False))
    except BaseException as error:
        if is_of_library(error):
            raise UserError(
                f"the tokenizer cannot encode the text ({one_line(error)}): give another one"
            ) from error
        raise
    return [np.array([*encoding.ids, layout.end], dtype) for encoding in encodings]


# --- the layout of ids ------------------------------------------------------------------------------


def _laid_out(tokenizer: Tokenizer, path: AnyPath, vocab_size: int | None, layout: Layout) -> Tokenizer:
    ids = [tokenizer.token_to_id(token) for token in layout.tokens]
    last = tokenizer.token_to_id(layout.last) if layout.last else None
    fits = layout.last is None or last == tokenizer.get_vocab_size() - 1
    if ids == list(range(len(layout.tokens))) and fits:
        _mark_special(tokenizer, layout)
    elif layout is ROBERTA and ids == [None] * len(ids):
        tokenizer = guarded(path, lambda: _with_roberta_layout(tokenizer, path))
    else:
        special = dict(zip(layout.tokens, ids, strict=True)) | ({layout.last: last} if layout.last else {})
        none = ", or none of them" if layout is ROBERTA else ""
        raise UserError(f"the tokenizer {path} has special tokens at {special}; needed are {layout}{none}")
    size = tokenizer.get_vocab_size()
    if vocab_size is not None and size != vocab_size:
        raise UserError(
            f"model.vocab_size is {vocab_size} but the tokenizer {path} has {size} entries: make them equal"
        )
    if (largest := max(tokenizer.get_vocab().values())) >= size:
        raise UserError(
            f"the tokenizer {path} has {size} entries, but an id {largest}: number them from 0 on"
        )
    return tokenizer


def _mark_special(tokenizer: Tokenizer, layout: Layout) -> None:
    """Make "<s>" in a text plain characters, not the start of a row."""
    for token in tokenizer.get_added_tokens_decoder().values():
        if token.content in layout.special and not token.special:
            tokenizer.add_special_tokens([token.content])
    tokenizer.encode_special_tokens = True


def _with_roberta_layout(tokenizer: Tokenizer, path: AnyPath) -> Tokenizer:
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise UserError(f"the tokenizer {path} is a {model['type']} model, not a byte-level BPE")
    ids = tokenizer.get_vocab(with_added_tokens=True)
    entries = [*SPECIAL_TOKENS, *sorted(ids, key=ids.__getitem__)]
    entries += [f"madeupword{i:04d}" for i in range(-len(entries) % 8)]
    vocabulary = {token: i for i, token in enumerate(entries)}
    state["model"] = {**model, "vocab": vocabulary, "unk_token": SPECIAL_TOKENS[UNK]}
    state["added_tokens"] = [
        {**token, "id": vocabulary[token["content"]]}
        for token in state["added_tokens"]
        if not token["special"]
    ]
    moved = Tokenizer.from_str(json.dumps(state))
    moved.add_special_tokens(list(SPECIAL_TOKENS))
    return _finish(moved)


# --- making ----------------------------------------------------------------------------------------


def _without_long_words(text: str) -> Iterator[str]:
    start = 0
    # most texts have none, which is quickly checked
    if len(text) > _LONGEST_WORD and (
        max(map(len, text.split()), default=0) > _LONGEST_WORD or _LONG_BLANK.search(text)
    ):
        for run in _LONG_RUN.finditer(text):
            for cut in range(run.start() + _LONGEST_WORD, run.end(), _LONGEST_WORD):
                yield text[start:cut]
                start = cut
    yield text[start:]


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    """Add <mask> as the last id, and make `encode` put <s> ... </s> around one text or two."""
    tokenizer.add_special_tokens([AddedToken(MASK_TOKEN, lstrip=True, special=True)])
    bos, eos = SPECIAL_TOKENS[BOS], SPECIAL_TOKENS[EOS]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, BOS), (eos, EOS)],
    )
    _mark_special(tokenizer, ROBERTA)
    return tokenizer
