"""A file of text that steps of a compression measure on, a text in each line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tokenizers import Tokenizer

from tlc_jax.core.errors import UserError
from tlc_jax.data.lines import check_text, read_lines
from tlc_jax.data.text_ids import SpecialIds, encode_texts
from tlc_jax.storage.paths import local_folder

_LINES = 1 << 10  # at a time


def encoded_lines(tokenizer: Tokenizer, special: SpecialIds, file: str) -> Iterator[list[int]]:
    """The ids of each line that is not empty. UserError where there are none."""
    path, lines = local_folder(file, "a --calibration-text"), 0
    texts = (line for line in read_lines(path) if line.strip())
    while batch := list(itertools.islice(texts, _LINES)):
        for line in batch:
            check_text(line, f"a line of {path}")
        lines += len(batch)
        yield from encode_texts(tokenizer, batch, special)
    if not lines:
        raise UserError(f"--calibration-text {path} has no text: give a file with a text in each line")
