"""Text as ids, without special tokens: what a text says is never taken for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError, one_line
from tlc_jax.core.native import abandonable
from tlc_jax.data.tokenizer import ROBERTA
from tlc_jax.data.tokenizer_file import is_of_library


@runtime_checkable
class SpecialIds(Protocol):
    """Ids of special tokens, by Roles or by a Layout."""

    @property
    def end(self) -> int: ...

    @property
    def unknown(self) -> int: ...

    @property
    def controls(self) -> frozenset[int]:
        """The ids that no text stands for."""
        ...


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str], special: SpecialIds) -> list[list[int]]:
    """The ids of each text, encoded in parallel. Signals are obeyed.

    Special tokens in a text are plain text. A Unigram or WordLevel model knows them as words, though: its
    vocabulary has nothing else for `</s>` in a text, which becomes the token of unknown text.
    """
    try:
        encodings = abandonable(lambda: tokenizer.encode_batch_fast(list(texts), add_special_tokens=False))
    except BaseException as error:
        if is_of_library(error):
            raise UserError(
                f"the tokenizer cannot encode the text ({one_line(error)}): give another one"
            ) from error
        raise
    controls = special.controls
    return [
        ids if controls.isdisjoint(ids) else [special.unknown if i in controls else i for i in ids]
        for ids in (encoding.ids for encoding in encodings)
    ]


def encode_lines(
    tokenizer: Tokenizer, lines: Sequence[str], dtype: np.dtype, special: SpecialIds = ROBERTA
) -> list[np.ndarray]:
    """The ids of each line with the end of a text behind them."""
    return [np.array([*ids, special.end], dtype) for ids in encode_texts(tokenizer, lines, special)]
