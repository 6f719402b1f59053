"""Distillations of a study, as a user gives them."""

from __future__ import annotations

from dataclasses import dataclass

from tlc_jax.config.marks import parse_mark
from tlc_jax.config.validation import check


@dataclass(frozen=True)
class Distillation:
    """A student, a teacher (sizes) and the mark at which the teacher is finished: `share` of the budget is
    spent on the teacher."""

    student: str
    teacher: str
    mark: str
    share: float


def parse_distillation(text: str) -> Distillation:
    """Of a text such as 2x64:3x192@1/2; ValueError for any other."""
    student, colon, taught_by = text.partition(":")
    teacher, at, mark = taught_by.partition("@")
    check(
        bool(student and colon and teacher and at),
        f"distillations: {text!r} is not STUDENT:TEACHER@MARK, such as 2x64:3x192@1/2",
    )
    share = parse_mark(mark).share
    check(
        share is not None and share < 1,
        f"distillations: {text!r} leaves no time for the student: give a mark below 1, such as 1/2",
    )
    assert share is not None
    return Distillation(student, teacher, mark, share)
