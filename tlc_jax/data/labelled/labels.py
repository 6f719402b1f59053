"""What may be a label, and which labels make a set of classes: those that somebody could have meant."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.data.tables import is_quoted, kind_of, some

MOST_CLASSES = 1000
LONGEST = 200  # characters of a label
UNLABELLED = "-1"  # what GLUE's test sets have in the place of a label
# what pandas, spreadsheets and SNLI write where there is none, in small letters
_NO_NAMES = {"", "nan", "-nan", "<na>", "#na", "#n/a"}
_WORDS = {
    "-",
    "?",
    "none",
    "null",
    "nil",
    "na",
    "n/a",
    "undefined",
}  # names of classes where they are frequent
_MISSING = _NO_NAMES | _WORDS
LEAST_ROWS, LEAST_PERCENT = 5, 1
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FEW = 20  # different numbers with fractions that may be ratings; more are measurements


def is_missing(value: Any, known: Collection[str] = ()) -> bool:
    """Whether a cell or a JSON value says that there is no label. What a model `known`s by name is one."""
    if isinstance(value, str):
        return value not in known and value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_frequent(count: int, rows: int) -> bool:
    """Whether so many of the rows of a training table have a label that it is meant as a class."""
    return count >= LEAST_ROWS and 100 * count >= LEAST_PERCENT * rows


def words_as_classes(values: Sequence[Any]) -> dict[str, int]:
    """The words of a training table, such as none or NA, that would mean no label if they were not frequent;
    and in how many rows they are."""
    counts = Counter(value for value in values if isinstance(value, str))
    return {
        value: count
        for value, count in counts.items()
        if value.casefold() in _WORDS and is_frequent(count, len(values))
    }


def label_name(value: Any, where: str, known: Collection[str] = ()) -> str:
    """The name of the class that a value means; UserError if it cannot be one. `where` is file and line."""
    if not isinstance(value, (str, int, float)):
        raise UserError(f"{where}: the label is {kind_of(value)}, not text or a number: give one label a row")
    name = str(value)
    if name in known:
        return name
    shown = f"'{printable(name, 60)}'"
    if name != name.strip():
        raise UserError(f"{where}: the label {shown} has spaces around it: remove them")
    if len(name) > LONGEST or name != printable(name, LONGEST):
        raise UserError(
            f"{where}: the label {shown} has more than {LONGEST} characters or unprintable ones: it is no "
            "name of a class; correct the row, or the names of the columns"
        )
    if is_quoted(name):
        raise UserError(
            f"{where}: the label {shown} has quotes around it, which are not interpreted: remove them"
        )
    return name


def class_names(labels: Sequence[str], lines: Sequence[int], path: Path) -> tuple[str, ...]:
    """The classes of a training table in the order of their names. UserError where the labels are no set of
    classes: too many, measurements, numbers of rows, one class written in two ways, most seen only once."""
    counts = Counter(labels)
    first = dict(zip(reversed(labels), reversed(lines), strict=True))
    if len(counts) < 2:
        raise UserError(f"{path} has {len(counts)} label(s), at least 2 are needed")
    once = [label for label in counts if counts[label] == 1]
    examples = ", ".join(repr(label) for label in list(counts)[:3])
    if len(counts) > MOST_CLASSES or (len(counts) > _FEW and 2 * len(once) > len(counts)):
        raise UserError(
            f"{path} has {len(counts):,} different labels in {len(labels):,} rows ({examples}, ...): at most "
            f"{MOST_CLASSES:,} classes that come again are a task; give the column of classes the name label"
        )
    fractions = [label for label in counts if _NUMBER.fullmatch(label) and float(label) % 1]
    if len(counts) > _FEW and 2 * len(fractions) > len(counts):
        raise UserError(
            f"{path} has {len(counts):,} different numbers as labels ({examples}, ...): they are "
            "measurements, not classes; round them to a few"
        )
    _check_spellings(counts, first, path)
    if UNLABELLED in counts and "0" in counts and not _is_scale(counts):
        raise UserError(
            f"{path} line {first[UNLABELLED]} has the label -1 beside 0, which marks rows without a label: "
            "remove these rows, or name the classes in words"
        )
    if 2 * len(once) > len(labels):
        also = f" (nor do {len(once) - 1} other labels)" if len(once) > 1 else ""
        raise UserError(
            f"{path} line {first[once[0]]}: the label {once[0]!r} does not come again{also}: a class needs "
            "rows to train and to tune on; correct the row, remove it, or give more of its class"
        )
    return tuple(sorted(counts))


def class_notes(labels: Sequence[str], lines: Sequence[int], path: Path) -> list[str]:
    """What is odd about the classes of a training table, and may be a mistake."""
    counts = Counter(labels)
    notes = []
    if UNLABELLED in counts and "0" in counts:
        notes.append(f"{path.name}: {UNLABELLED} is a class: {counts[UNLABELLED]:,} rows")
    if once := [label for label in counts if counts[label] == 1]:
        line = lines[labels.index(once[0])]
        notes.append(
            f"{path.name}: in one row only, too few to learn it: {some(once)} (the first in line {line})"
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
                f"{path} line {first[label]}: the label {label!r} is {other!r} of line {first[other]} in "
                "another spelling: write both in one way"
            )


def _spelling(label: str) -> object:
    """What labels have in common that mean one class: 'Pos' and 'pos', '1.0' and '1'."""
    if _NUMBER.fullmatch(label):
        return float(label)
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def unknown_label(label: str, names: Sequence[str], where: str, of: str) -> UserError:
    """The error for a label that is none of `names`, which `of` has."""
    like = [name for name in names if _spelling(name) == _spelling(label)]
    todo = f"write it as {like[0]!r}" if like else "correct or remove the row"
    return UserError(f"{where}: label '{printable(label, 60)}' is none of {of} ({some(names)}): {todo}")
