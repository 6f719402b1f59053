"""Claims about large models, and what a study finds about each.

An exhibit says which way its rows point, with an interval, and how likely chance would do the same; it gives
no verdict. The verdict is made here, from the findings of a study together, since each further comparison is
a further chance to be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tlc_jax.studies.statistics import LEVEL, holm

NOT_TESTED = "not tested"
Outcome = Literal["holds", "fails", "not resolved", "not tested"]
"""The last: there is one training each, for example, so that nothing says what chance would do."""


@dataclass(frozen=True)
class Claim:
    """A statement that a study can contradict."""

    name: str
    """A short name, unique among all claims, such as larger-is-faster."""
    statement: str
    """One sentence, as the paper means it."""
    source: str
    """The section, figure or table of the paper, or another paper."""


@dataclass(frozen=True)
class Finding:
    """What the rows of a study say about a claim."""

    claim: Claim
    effect: str
    """The effect in numbers, with unit, interval, sizes and budget: '2x128 is 0.12 [0.05, 0.19] nats per byte
    better than 2x64 at 1,200 s'."""
    supports: bool
    """Whether the effect points where the claim says."""
    p: float | None
    """How likely chance alone would give such an effect: over trainings, where the claim is about trainings.
    0 of what is counted, not sampled. None: it cannot be tested, for example since each size has one seed."""


def corrected(findings: Sequence[Finding]) -> list[float | None]:
    """The p-value of each finding, corrected for the number of those that are tested (Holm)."""
    tested = iter(holm([finding.p for finding in findings if finding.p is not None]))
    return [None if finding.p is None else next(tested) for finding in findings]


def outcomes(findings: Sequence[Finding]) -> list[Outcome]:
    """The verdict on each finding of one study."""

    def outcome(finding: Finding, p: float | None) -> Outcome:
        if p is None:
            return NOT_TESTED
        if p >= LEVEL:
            return "not resolved"
        return "holds" if finding.supports else "fails"

    return [outcome(*pair) for pair in zip(findings, corrected(findings), strict=True)]


def as_sentences(findings: Sequence[Finding]) -> list[str]:
    """The effect of each finding of an exhibit, with its p-value corrected for their number (Holm)."""
    tested = [finding for finding in findings if finding.p]
    corrected = dict(zip(map(id, tested), holm([float(f.p or 0) for f in tested]), strict=True))

    def sentence(finding: Finding) -> str:
        text, p = f"{finding.effect[:1].upper()}{finding.effect[1:]}", corrected.get(id(finding))
        if p is not None:
            text += f" ({'resolved' if p < LEVEL else 'not resolved'} over seeds, p = {p:.2g})"
        return f"{text}."

    texts = [sentence(finding) for finding in findings]
    if any(finding.p is None for finding in findings):
        texts.append("A model with one seed is not tested: another seed may turn an order.")
    return texts
