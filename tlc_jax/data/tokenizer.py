"""Tokenizers: those that are trained here, and those that are given.

What is trained is a byte-level BPE in RoBERTa's id layout (<s> 0, <pad> 1, </s> 2, <unk> 3, ..., <mask>
last), or in that of translation (<pad> 0, </s> 1, <unk> 2, ...). The tokenizer of a pretrained encoder may be
of any kind, with its special tokens anywhere (tokenizer_roles.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

from tlc_jax.core.errors import UserError
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
    Roles,
    roberta_roles,
)
from tlc_jax.data.lossless import loss
from tlc_jax.data.tokenizer_file import byte_level, guarded, read_tokenizer
from tlc_jax.data.tokenizer_roles import frame_texts, names_roles, roles_of
from tlc_jax.data.tokenizer_trimming import TrimmedVocabulary
from tlc_jax.storage.paths import AnyPath

_MOST_MISSING = 1 << 16  # ids below the largest one that no token has
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

    @property
    def controls(self) -> frozenset[int]:
        """The ids from 0 on that no text stands for."""
        return frozenset(range(len(self.tokens))) - {self.unknown}

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
    that it may ask for. Raises UserError for a file that is not a tokenizer, special tokens that do not fit,
    or ids beyond its size or `vocab_size`."""
    tokenizer, path, _ = read_tokenizer(path)
    return _laid_out(tokenizer, path, vocab_size, layout, exact=False)[0]


def trimmed_tokenizer(vocabulary: TrimmedVocabulary) -> Tokenizer:
    """The tokenizer that is left of one of a model."""
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def given_tokenizer(
    path: str | AnyPath,
    vocab_size: int | None = None,
    layout: Layout = ROBERTA,
    *,
    lossless: bool = True,
    exact: bool = True,
) -> tuple[Tokenizer, str]:
    """The tokenizer that a user names, and the SHA-256 of what was read, for any layout; see
    `encoder_tokenizer`."""
    if layout is ROBERTA:
        tokenizer, _, digest = encoder_tokenizer(path, vocab_size, lossless=lossless, exact=exact)
        return tokenizer, digest
    tokenizer, path, digest = read_tokenizer(path)
    tokenizer, _ = _laid_out(tokenizer, path, vocab_size, layout, exact)
    if lossless:
        _check_lossless(tokenizer, path, layout.special)
    return tokenizer, digest


def encoder_tokenizer(
    path: str | AnyPath, vocab_size: int | None = None, *, lossless: bool = True, exact: bool = True
) -> tuple[Tokenizer, Roles, str]:
    """The tokenizer that a user names for an encoder, the roles of its special tokens, and the SHA-256 of
    what was read: a `tokenizer.json`, or GPT-2's `vocab.json` with `merges.txt` beside it.

    A vocabulary without special tokens for an encoder is moved up by four ids, filled with `madeupword`
    entries to a multiple of eight and ended by <mask>, as in fairseq: the 50257 entries of GPT-2 become the
    50265 of RoBERTa. Any other tokenizer of an encoder keeps its ids.

    Raises UserError as `load_tokenizer` does; for a tokenizer that loses text, unless `lossless` is False,
    for models that were trained with one; and for fewer entries than `vocab_size`, unless `exact` is False,
    for models whose embedding has rows to spare.
    """
    tokenizer, path, digest = read_tokenizer(path)
    tokenizer, roles = _laid_out(tokenizer, path, vocab_size, ROBERTA, exact)
    roles = roles or roles_of(tokenizer, path)
    if lossless:
        _check_lossless(tokenizer, path, _names(tokenizer, roles))
    return tokenizer, roles, digest


def _check_lossless(tokenizer: Tokenizer, path: AnyPath, special: tuple[str, ...]) -> None:
    if reason := guarded(path, lambda: loss(tokenizer, special)):
        raise UserError(f"the tokenizer {path} does not keep every text: {reason}")


# --- the layout of ids ------------------------------------------------------------------------------


def _laid_out(
    tokenizer: Tokenizer, path: AnyPath, vocab_size: int | None, layout: Layout, exact: bool
) -> tuple[Tokenizer, Roles | None]:
    """The tokenizer with ids for the layout; for an encoder also the roles, if they were needed for that."""
    ids, roles = [tokenizer.token_to_id(token) for token in layout.tokens], None
    last = tokenizer.token_to_id(layout.last) if layout.last else None
    fits = layout.last is None or last == tokenizer.get_vocab_size() - 1
    if ids == list(range(len(layout.tokens))) and fits:
        _mark_special(tokenizer, layout.special)
        exact = True
    elif layout is not ROBERTA:
        special = dict(zip(layout.tokens, ids, strict=True))
        raise UserError(f"the tokenizer {path} has special tokens at {special}; needed are {layout}")
    elif ids == [None] * len(ids) and not names_roles(tokenizer, path):
        tokenizer = guarded(path, lambda: _with_roberta_layout(tokenizer, path))
        roles, exact = roberta_roles(tokenizer.get_vocab_size()), True
    else:
        _check_size(tokenizer, path, vocab_size, exact)
        roles = roles_of(tokenizer, path)
        frame_texts(tokenizer, roles, path)
        _mark_special(tokenizer, _names(tokenizer, roles))
        return tokenizer, roles
    _check_size(tokenizer, path, vocab_size, exact)
    return tokenizer, roles


def _check_size(tokenizer: Tokenizer, path: AnyPath, vocab_size: int | None, exact: bool) -> None:
    """UserError for ids beyond the vocabulary of the model; if `exact`, for entries that it has too many."""
    size, largest = tokenizer.get_vocab_size(), max(tokenizer.get_vocab().values())
    if vocab_size is not None and not exact and size <= vocab_size:
        limit = min(vocab_size, size + _MOST_MISSING)
    elif vocab_size not in (None, size):
        raise UserError(
            f"model.vocab_size is {vocab_size} but the tokenizer {path} has {size} entries: make them equal"
        )
    else:
        limit = size
    if largest >= limit:
        raise UserError(
            f"the tokenizer {path} has {size} entries, but an id {largest}: number them from 0 on"
        )


def _names(tokenizer: Tokenizer, roles: Roles) -> tuple[str, ...]:
    return tuple(str(tokenizer.id_to_token(i)) for i in (*sorted(roles.controls), roles.unknown))


def _mark_special(tokenizer: Tokenizer, special: tuple[str, ...]) -> None:
    """Make "<s>" in a text plain characters, not the start of a row."""
    for token in tokenizer.get_added_tokens_decoder().values():
        if token.content in special and not token.special:
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
    _mark_special(tokenizer, ROBERTA.special)
    return tokenizer
