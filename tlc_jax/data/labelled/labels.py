"""What may be a label, and which labels make a plausible set of classes."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted, first_of, printable
from tlc_jax.data.tables import is_quoted, kind_of, row_location

MOST_CLASSES = 1000
LONGEST = 200  # characters of a label
UNLABELLED = "-1"  # the label in GLUE's test sets
# what pandas, spreadsheets and SNLI write for a missing label, in lower case
_NEVER_CLASSES = {"", "nan", "-nan", "<na>", "#na", "#n/a"}
_WORDS = set("- ? none null nil na n/a undefined".split())  # names of classes where they are frequent
_MISSING = _NEVER_CLASSES | _WORDS
LEAST_ROWS, LEAST_PERCENT = 5, 1
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FEW = 20  # different fractional numbers at most that may be ratings; more are measurements


def is_missing(value: Any, known: Collection[str] = ()) -> bool:
    """Whether a cell or a JSON value stands for a missing label. The names of `known` classes never do."""
    if isinstance(value, str):
        return value not in known and value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_frequent(count: int, rows: int) -> bool:
    """Whether a label is in enough rows of a training table to be meant as a class."""
    return count >= LEAST_ROWS and 100 * count >= LEAST_PERCENT * rows


def words_as_classes(values: Sequence[Any]) -> dict[str, int]:
    """Labels of a training table, such as none or NA, that would mean a missing label if they were not
    frequent, and the number of their rows."""
    counts = Counter(value for value in values if isinstance(value, str))
    return {
        value: count
        for value, count in counts.items()
        if value.casefold() in _WORDS and is_frequent(count, len(values))
    }


def label_name(value: Any, location: str, known: Collection[str] = ()) -> str:
    """The name of the class that a value means; UserError if it cannot be one. `location` is file and
    line."""
    if not isinstance(value, (str, int, float)):
        raise UserError(f"{location}: the label is {kind_of(value)}, not text or a number: write one a row")
    name = str(value)
    if name in known:
        return name
    shown = f"'{printable(name, 60)}'"
    if name != name.strip():
        raise UserError(f"{location}: the label {shown} has spaces around it: remove them")
    if len(name) > LONGEST or name != printable(name, LONGEST):
        raise UserError(
            f"{location}: the label {shown} has more than {LONGEST} characters or unprintable ones, so it is "
            "not the name of a class: correct the row, or the names of the columns"
        )
    if is_quoted(name):
        raise UserError(
            f"{location}: the label {shown} has quotes around it, which are not interpreted: remove them"
        )
    return name


def class_names(labels: Sequence[str], lines: Sequence[int], path: Path) -> tuple[str, ...]:
    """The classes of a training table, sorted by name. UserError if the labels are not plausible classes: too
    many, measurements, row numbers, one class in two spellings, most in one row only."""
    counts = Counter(labels)
    first = dict(zip(reversed(labels), reversed(lines), strict=True))
    if len(counts) < 2:
        raise UserError(f"{path} has {counted(len(counts), 'label')}, and at least 2 are needed")
    once = [label for label in counts if counts[label] == 1]
    examples = ", ".join(repr(label) for label in list(counts)[:3])
    if len(counts) > MOST_CLASSES or (len(counts) > _FEW and 2 * len(once) > len(counts)):
        raise UserError(
            f"{path} has {len(counts):,} different labels in {len(labels):,} rows ({examples}, ...), but "
            f"a task has at most {MOST_CLASSES:,} classes of several rows each: name the column with the "
            "classes label"
        )
    fractions = [label for label in counts if _NUMBER.fullmatch(label) and float(label) % 1]
    if len(counts) > _FEW and 2 * len(fractions) > len(counts):
        raise UserError(
            f"{path} has {len(counts):,} different numbers as labels ({examples}, ...), which "
            "are measurements, not classes: round them to a few"
        )
    _check_spellings(counts, first, path)
    if UNLABELLED in counts and "0" in counts and not _is_scale(counts):
        raise UserError(
            f"{row_location(path, first[UNLABELLED])} has the label -1 beside 0, which marks rows without a "
            "label: remove these rows, or name the classes in words"
        )
    if 2 * len(once) > len(labels):
        also = f" (like {len(once) - 1} other labels)" if len(once) > 1 else ""
        raise UserError(
            f"{row_location(path, first[once[0]])}: the label {once[0]!r} is in no other row{also}, but a "
            "class needs rows to train and to tune on: correct the row, remove it, or add rows of its class"
        )
    return tuple(sorted(counts))


def class_notes(labels: Sequence[str], lines: Sequence[int], path: Path) -> list[str]:
    """What may be a mistake in the classes of a training table."""
    counts = Counter(labels)
    notes = []
    if UNLABELLED in counts and "0" in counts:
        notes.append(f"{path.name}: {UNLABELLED} is a class: {counts[UNLABELLED]:,} rows")
    if once := [label for label in counts if counts[label] == 1]:
        line = lines[labels.index(once[0])]
        notes.append(
            f"{path.name}: in one row only, too few to learn from: {first_of(once)} (the first in line "
            f"{line})"
        )
    return notes


def _is_scale(counts: Counter[str]) -> bool:
    """Whether -1, 0 and 1 are negative, neutral and positive."""
    return all(is_frequent(counts[label], counts.total()) for label in (UNLABELLED, "0", "1"))


def _check_spellings(counts: Counter[str], first: dict[str, int], path: Path) -> None:
    spelled: dict[object, str] = {}
    for label in counts:
        other = spelled.setdefault(_spelling(label), label)
        if other != label:
            raise UserError(
                f"{row_location(path, first[label])}: the label {label!r} is another spelling of {other!r} "
                f"in line {first[other]}: write both in the same way"
            )


def _spelling(label: str) -> object:
    """What is equal in labels that mean the same class: 'Pos' and 'pos', '1.0' and '1'."""
    if _NUMBER.fullmatch(label):
        return float(label)
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def unknown_label(label: str, names: Sequence[str], location: str, of: str) -> UserError:
    """The error for a label that is none of `names`; `of` says what these are the names of."""
    similar = [name for name in names if _spelling(name) == _spelling(label)]
    todo = f"write it as {similar[0]!r}" if similar else "correct or remove the row"
    shown = printable(label, 60)
    return UserError(f"{location}: label '{shown}' is none of {of} ({first_of(names)}): {todo}")
