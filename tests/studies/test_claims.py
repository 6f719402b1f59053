"""Verdicts on claims."""

from __future__ import annotations

from tlc_jax.studies.claims import Claim, Finding, outcomes

CLAIM = Claim("larger-is-faster", "Larger models need less time.", "section 3")


def _finding(supports: bool, p: float | None) -> Finding:
    return Finding(CLAIM, "0.1 [0.0, 0.2] nats per byte", supports, p)


def test_a_verdict_follows_the_direction_of_an_effect_that_chance_would_hardly_give():
    assert outcomes([_finding(True, 0.001), _finding(False, 0.001)]) == ["holds", "fails"]


def test_what_cannot_be_tested_says_so():
    assert outcomes([_finding(True, None)]) == ["not tested"]


def test_the_findings_of_a_study_are_corrected_together():
    """0.03 alone would do; of two with 0.03 and 0.04, Holm's correction makes 0.06 of the smaller. What
    cannot be tested is no comparison."""
    assert outcomes([_finding(True, 0.03), _finding(True, None)]) == ["holds", "not tested"]
    assert outcomes([_finding(True, 0.03), _finding(True, 0.04)]) == ["not resolved", "not resolved"]


def test_what_is_counted_needs_no_test():
    assert outcomes([_finding(False, 0.0)]) == ["fails"]
