"""Cuts sentences that are longer than those a model was trained on into parts."""

from __future__ import annotations

import re

from tlc_jax.core import stopping
from tlc_jax.data.tokenizer import Tokenizer


def pieces(line: str, tokenizer: Tokenizer, longest: int) -> list[str]:
    """The line in parts of at most `longest` tokens, cut behind sentences, else between words, else
    anywhere; a single character is not cut, however many tokens it has."""
    if len(line) < 2 or _fits(tokenizer, line, longest):
        return [line]
    for pattern in (r"(?<=[.!?;:…])\s+", r"\s+"):
        if len(parts := [part for part in re.split(pattern, line) if part]) > 1:
            break
    else:
        middle = len(line) // 2
        parts = [line[:middle], line[middle:]]
    parts_that_fit, joined = [], ""
    for part in parts:
        stopping.check()
        longer = f"{joined} {part}".strip()
        if joined and not _fits(tokenizer, longer, longest):
            parts_that_fit += pieces(joined, tokenizer, longest)
            longer = part
        joined = longer
    return [*parts_that_fit, *pieces(joined, tokenizer, longest)]


def _fits(tokenizer: Tokenizer, text: str, longest: int) -> bool:
    """Whether the text has at most `longest` tokens, which may be more than its bytes: some tokenizers add a
    space, and normalizers spell characters out."""
    return len(tokenizer.encode(text, add_special_tokens=False).ids) <= longest
