"""How many bytes of text each token stands for, by which nats per byte are counted.

A byte-level BPE says it itself. Other tokenizers lose text (case, spaces, what they do not know): there, the
bytes of the original text are shared out to the tokens that it became, and a token stands for its mean share.
So nats per byte are always of the bytes that were read, and compare between tokenizers of any kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int
from tokenizers import Tokenizer

from tlc_jax.core.native import abandonable
from tlc_jax.core.vocabulary import Roles
from tlc_jax.data.text_ids import SpecialIds


def token_bytes(tokenizer: Tokenizer, special: SpecialIds) -> Float32[np.ndarray, "vocab"]:
    """The UTF-8 bytes of each token of a byte-level BPE. </s> counts as one byte, for the end of its line;
    the other special tokens stand for no text and count as none."""
    vocabulary = tokenizer.get_vocab()
    sizes = np.zeros(max(vocabulary.values()) + 1, np.float32)
    for token, index in vocabulary.items():
        sizes[index] = len(token)  # the alphabet of a byte-level BPE has one character for each byte
    for index, added in tokenizer.get_added_tokens_decoder().items():
        sizes[index] = len(added.content.encode())  # added tokens are written as they are
    sizes[[*special.controls, special.unknown]] = 0
    sizes[special.end] = 1
    return sizes


class MeasuredBytes:
    """The mean number of bytes of lines of text that a token stands for, whatever the tokenizer.

    A token stands for what is between the token before it and its own end, so for the spaces before a word;
    the end of a line for the rest of the line and one byte more.
    """

    def __init__(self, tokenizer: Tokenizer, roles: Roles):
        self._tokenizer, self._roles = tokenizer, roles
        self._bytes, self._counts = np.zeros(roles.vocab_size), np.zeros(roles.vocab_size, np.int64)

    def add(self, lines: Sequence[str]) -> None:
        encode = self._tokenizer.encode_batch
        encodings = abandonable(lambda: encode(list(lines), add_special_tokens=False))
        for line, encoding in zip(lines, encodings, strict=True):
            ids = np.array([*encoding.ids, self._roles.end])
            ids[:-1][np.isin(ids[:-1], list(self._roles.controls))] = self._roles.unknown
            ends = np.array([end for _, end in encoding.offsets], np.int64)
            ends = np.maximum.accumulate(_bytes_before(line)[ends])
            sizes = np.diff([0, *ends, len(line.encode()) + 1])
            np.add.at(self._bytes, ids, sizes)
            np.add.at(self._counts, ids, 1)

    def sizes(self) -> Float32[np.ndarray, "vocab"]:
        """0 for tokens that did not occur."""
        return (self._bytes / np.maximum(self._counts, 1)).astype(np.float32)


def _bytes_before(line: str) -> Int[np.ndarray, "characters_1"]:
    if line.isascii():
        return np.arange(len(line) + 1)
    return np.cumsum([0, *(len(character.encode()) for character in line)])
