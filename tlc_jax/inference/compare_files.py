"""Translations in a file against references in others: BLEU and chrF without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.native import abandonable
from tlc_jax.core.printable import printable
from tlc_jax.data.lines import read_lines
from tlc_jax.data.pairs.languages import is_language
from tlc_jax.tasks.bleu import check_language, scores

_LARGEST = 1 << 28  # characters of a file: a hundred times the largest test set


def compare_files(hypotheses: str, references: Sequence[str], language: str) -> dict[str, Any]:
    """BLEU and chrF of a file against one or several with the same number of lines; plain, .gz or .zst."""
    if not is_language(language):
        raise UserError(
            f"--language {printable(language, 60)} is no language: give a code of ISO 639, such as "
            "--language fr"
        )
    check_language(language)
    sides = [_read("--hypotheses", hypotheses), *(_read("--references", name) for name in references)]
    for name, lines in zip(references, sides[1:], strict=True):
        if len(lines) != len(sides[0]) or not lines:
            raise UserError(
                f"{hypotheses} has {len(sides[0]):,} lines and {name} has {len(lines):,}: both need the "
                "same number, and at least one"
            )
    return abandonable(lambda: scores(sides[0], sides[1:], language))


def _read(option: str, name: str) -> list[str]:
    """The lines as sacrebleu's command line reads them: only a line feed ends a line, and blanks before it
    are dropped."""
    lines, size = list[str](), 0
    try:
        for line in read_lines(Path(name)):
            lines.append(line.rstrip())
            size += len(line)
            if size > _LARGEST:
                raise UserError(f"{name} holds more than {_LARGEST:,} characters: compare a part of it")
    except UserError as error:
        raise UserError(f"{option} {error}") from error
    return lines
