"""Labelled or unlabelled texts as rows of ids.

An example is `<s> A </s>` or `<s> A </s></s> B </s>` (fairseq sentence_prediction); one that is too long
loses tokens at the end of its longer text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Integer
from tokenizers import Tokenizer

from tlc_jax.core.native import abandonable
from tlc_jax.core.vocabulary import BOS, EOS
from tlc_jax.data.manifests import id_dtype

_CHUNK = 20_000  # texts encoded at a time


def encode_examples(
    texts: Sequence[tuple[str, ...]],
    tokenizer: Tokenizer,
    length: int,
    advance: Callable[[float], None] = lambda count: None,
) -> tuple[list[Integer[np.ndarray, "_"]], list[bool]]:
    """The ids of each example, at most `length`, and whether it was too long."""
    dtype = id_dtype(tokenizer.get_vocab_size())
    rows, truncated = [], list[bool]()
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        sides = [_encoded(tokenizer, list(side)) for side in zip(*chunk, strict=True)]
        for parts in zip(*sides, strict=True):
            kept = fit(list(parts), length)
            truncated.append(sum(map(len, kept)) < sum(map(len, parts)))
            row = [BOS, *kept[0], EOS]
            for part in kept[1:]:
                row += [EOS, *part, EOS]
            rows.append(np.array(row, dtype))
        advance(len(chunk))
    return rows, truncated


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    encodings = abandonable(lambda: tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    return [encoding.ids for encoding in encodings]


def fit(parts: list[list[int]], length: int) -> list[list[int]]:
    """The texts of an example, the longer one truncated until they fit into `length` with special tokens."""
    limit = length - 2 * len(parts)
    if len(parts) == 1:
        return [parts[0][:limit]]
    first, second = parts
    kept = min(len(first), max(limit - len(second), limit // 2))
    return [first[:kept], second[: limit - kept]]
