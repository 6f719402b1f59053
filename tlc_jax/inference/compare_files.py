"""Translations in a file against references in others: BLEU and chrF without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.tasks.bleu import known_languages, scores


def compare_files(hypotheses: str | None, references: str | None, language: str) -> dict[str, Any]:
    """BLEU and chrF of two files with as many lines."""
    if language not in known_languages():
        raise UserError(f"--language {language} is none of {', '.join(known_languages())}")
    sides = []
    for option, name in (("--hypotheses", hypotheses), ("--references", references)):
        try:
            # as sacrebleu's command line reads them: no other character than this ends a line
            sides.append(Path(str(name)).read_bytes().decode().split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{option} {name} cannot be read: {error}") from error
        if sides[-1][-1] == "":
            sides[-1].pop()
    if len(sides[0]) != len(sides[1]) or not sides[0]:
        raise UserError(
            f"{hypotheses} has {len(sides[0])} lines and {references} has {len(sides[1])}: both need as "
            "many, and at least one"
        )
    return scores(sides[0], sides[1], language)
