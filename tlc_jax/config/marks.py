"""Marks: the points of a run whose checkpoints are kept, and where branches leave a trunk.

A mark is a share of the budget that the schedule follows ("1/16", "0.25") or a number of epochs of the data
("epoch3"; paper 4.4 uses 3 and 6). A trunk, whose learning rate never falls, also keeps a checkpoint at 80
% of each mark, from which a branch decays the learning rate until the mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

COOLDOWN = 0.2  # share of a branch's budget
BEST = "best"
"""The mark of the best evaluation, which moves on: the newest checkpoint that has it is the best."""
_EPOCH = "epoch"


@dataclass(frozen=True)
class Mark:
    """A point of a run: a `share` of the budget, or a number of `epochs`. Manifests of checkpoints hold its
    `name`."""

    name: str
    share: float | None = None
    epochs: float | None = None

    def reached(self, share: float, epochs: float) -> bool:
        if self.share is not None:
            return share >= self.share
        return self.epochs is not None and epochs >= self.epochs


def parse_mark(name: str) -> Mark:
    """The mark of a name such as 1/16 or epoch3; ValueError for any other."""
    try:
        at = float(Fraction(name.removeprefix(_EPOCH)))
    except (ValueError, ZeroDivisionError):
        at = 0.0
    if name.startswith(_EPOCH) and at > 0:
        return Mark(name, epochs=at)
    if 0 < at <= 1:
        return Mark(name, share=at)
    raise ValueError(f"{name!r} is no mark: give a share of the budget (1/16) or epochs (epoch3)")


def branch_point(mark: Mark) -> Mark:
    """Where a branch that ends at `mark` (a share of the budget) leaves its trunk."""
    assert mark.share is not None
    return Mark(f"branch to {mark.name}", share=(1 - COOLDOWN) * mark.share)


def kept_marks(names: str, trunk: bool) -> tuple[Mark, ...]:
    """All points whose checkpoints a run keeps, from comma-separated names. A trunk also keeps its branch
    points."""
    marks = [parse_mark(name.strip()) for name in names.split(",")] if names else []
    points = [branch_point(mark) for mark in marks if trunk and mark.share is not None]
    return (*marks, *points)
