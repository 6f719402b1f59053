"""Labelled or unlabelled texts as rows of ids.

An example is `<s> A </s>` or `<s> A </s></s> B </s>` (fairseq sentence_prediction), or what another tokenizer
puts around one text or two; one that is too long loses tokens at the end of its longer text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer, UInt8
from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError
from tlc_jax.core.vocabulary import Frame, Roles
from tlc_jax.data.manifests import id_dtype
from tlc_jax.data.text_ids import encode_texts

_CHUNK = 20_000  # texts encoded at a time


@dataclass(frozen=True)
class EncodedRow:
    """The ids of an example, the token type of each where not all are 0, and whether it was too long."""

    ids: Integer[np.ndarray, "_"]
    types: UInt8[np.ndarray, "_"] | None
    truncated: bool


def encode_examples(
    texts: Sequence[tuple[str, ...]],
    tokenizer: Tokenizer,
    roles: Roles,
    length: int,
    advance: Callable[[float], None] = lambda count: None,
) -> Iterator[EncodedRow]:
    """The row of each example, at most `length` ids long. UserError where the tokenizer does not frame two
    texts, or leaves no room for any."""
    if not texts:
        return
    dtype, frame = id_dtype(roles.vocab_size), roles.frame(len(texts[0]))
    if frame is None:
        raise UserError(
            "the tokenizer does not say what it puts around two texts (the `pair` of its post-processor): "
            "complete its tokenizer.json, or classify single texts"
        )
    if (room := length - frame.size) < len(texts[0]):
        raise UserError(
            f"data.sequence_length {length} leaves no room for text: raise it above {frame.size + 1}"
        )
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        sides = [encode_texts(tokenizer, side, roles) for side in zip(*chunk, strict=True)]
        for parts in zip(*sides, strict=True):
            yield _row(fit(list(parts), room, fairseq=roles.ours), frame, dtype, sum(map(len, parts)))
        advance(len(chunk))


def _row(kept: list[list[int]], frame: Frame, dtype: np.dtype, tokens: int) -> EncodedRow:
    lengths = [len(part) for part in kept]
    types = np.array(frame.types(lengths), np.uint8) if frame.has_types else None
    return EncodedRow(np.array(frame.ids(kept), dtype), types, truncated=sum(lengths) < tokens)


def fit(parts: list[list[int]], room: int, *, fairseq: bool = False) -> list[list[int]]:
    """The texts of an example, the longer one truncated until they have at most `room` tokens.

    Where both are truncated to half of an odd room, the longer one keeps the odd token, as with transformers'
    `longest_first`; with `fairseq`, the second one does, as in all our data in RoBERTa's layout.
    """
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    half = (room + (len(first) > len(second) and not fairseq)) // 2
    kept = min(len(first), max(room - len(second), half))
    return [first[:kept], second[: room - kept]]
