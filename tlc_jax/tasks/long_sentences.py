"""Sentences that are longer than a model was trained on are translated in parts."""

from __future__ import annotations

import re

from tlc_jax.core import stopping
from tlc_jax.data.tokenizer import Tokenizer


def pieces(line: str, tokenizer: Tokenizer, longest: int) -> list[str]:
    """The line in parts of at most `longest` tokens, cut behind sentences, else between words, else
    anywhere."""
    if _fits(tokenizer, line, longest):
        return [line]
    for pattern in (r"(?<=[.!?;:…])\s+", r"\s+"):
        if len(parts := [part for part in re.split(pattern, line) if part]) > 1:
            break
    else:
        middle = len(line) // 2
        parts = [line[:middle], line[middle:]]
    found, joined = [], ""
    for part in parts:
        stopping.check()
        longer = f"{joined} {part}".strip()
        if joined and not _fits(tokenizer, longer, longest):
            found += pieces(joined, tokenizer, longest)
            longer = part
        joined = longer
    return [*found, *pieces(joined, tokenizer, longest)]


def _fits(tokenizer: Tokenizer, text: str, longest: int) -> bool:
    """Each token is a byte or more, so few bytes need not be encoded."""
    few = len(text.encode()) <= longest
    return few or len(tokenizer.encode(text, add_special_tokens=False).ids) <= longest
