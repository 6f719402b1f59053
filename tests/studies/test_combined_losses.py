"""What is said of pruning and quantization together, of stores that are made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.studies.compressed_stores import Way, compressed_in_ways, drawn, findings
from tlc_jax.studies.exhibits.combined_losses import COMBINED_LOSSES
from tlc_jax.studies.item_store import ItemStore

SMALL, LARGE = "1x32", "2x64"


def both(
    tmp_path: Path,
    above: dict[str, list[float]],
    recovered: bool = False,
    controls: tuple[str, ...] = (SMALL, LARGE),
    gate: float | None = None,
) -> ItemStore:
    """Losses of 0.1 by 4 bits and 0.2 by pruning half, and so much more by both."""
    values = {}
    for size, more in above.items():
        dense = 1.5 + 0.01 * np.arange(len(more))
        values[Way(size)] = [*dense]
        values[Way(size, 4)] = [*(dense + 0.1)]
        values[Way(size, 32, 0.5, recovered)] = [*(dense + 0.2)]
        values[Way(size, 4, 0.5, recovered)] = [*(dense + 0.3 + np.array(more))]
        if recovered and size in controls:
            values[Way(size, 32, as_long_as=0.5)] = [*(dense - 0.2)]
            values[Way(size, 4, as_long_as=0.5)] = [*(dense - 0.05)]
    return compressed_in_ways(tmp_path, values, gate=gate)


def test_both_together_against_the_sum(tmp_path: Path) -> None:
    above = {SMALL: [0.05, 0.07, 0.09], LARGE: [0.01, 0.02, 0.03]}
    [finding] = findings(COMBINED_LOSSES, both(tmp_path / "a", above))
    assert finding.supports
    errors = [np.std(each, ddof=1) / np.sqrt(3) / 2 for each in above.values()]
    freedom = sum(e**2 for e in errors) ** 2 / sum(e**4 / 2 for e in errors)
    error = np.sqrt(sum(e**2 for e in errors))
    assert finding.p == pytest.approx(2 * stats.t.sf(0.045 / error, freedom), rel=1e-6)
    half = stats.t.ppf(0.975, freedom) * error
    assert f"{0.045:+.4f} [{0.045 - half:+.4f}, {0.045 + half:+.4f}]" in finding.effect
    assert "mean of 1x32, 2x64" in finding.effect
    [less] = findings(COMBINED_LOSSES, both(tmp_path / "b", {SMALL: [-0.05, -0.07, -0.09]}))
    assert not less.supports
    assert drawn(COMBINED_LOSSES, both(tmp_path / "c", above)) == 1


def test_the_control_of_recovery_is_quantized_for_the_sum(tmp_path: Path) -> None:
    """Quantization costs the control 0.15 and not 0.1."""
    [finding] = findings(COMBINED_LOSSES, both(tmp_path, {SMALL: [0.05, 0.07, 0.09]}, recovered=True))
    assert "50 % pruned in rounds and 4 bits lose +0.0200 [" in finding.effect


def test_a_size_that_both_together_destroy_counts_in_the_mean(tmp_path: Path) -> None:
    """1x32 loses 0.05 less than the sum; 2x64 loses 1.2 more, by which it gets no better than the gate."""
    above = {SMALL: [-0.05, -0.051, -0.049], LARGE: [1.2, 1.202, 1.204]}
    store = both(tmp_path, above, gate=2.5)
    [finding] = findings(COMBINED_LOSSES, store)
    assert finding.supports
    assert f"lose {(1.202 - 0.05) / 2:+.4f} [" in finding.effect
    assert "mean of 1x32, 2x64 (no better than the gate))" in finding.effect
    assert drawn(COMBINED_LOSSES, store) == 1


@pytest.mark.parametrize("gate", [1.4, 1.8])
def test_a_size_that_the_sum_takes_to_its_gate_does_not_count(tmp_path: Path, gate: float) -> None:
    """The dense model has 1.5 to 1.52, the sum of both losses 1.8 to 1.82: at a gate of 1.8 both together
    cannot lose more, and seem to lose less."""
    above = {SMALL: [-0.05, -0.051, -0.049]}
    store = both(tmp_path, above, gate=gate)
    assert findings(COMBINED_LOSSES, store) == []
    assert COMBINED_LOSSES.table(COMBINED_LOSSES.rows(store)).row_count == 1, "it is shown"
    [counts] = findings(COMBINED_LOSSES, both(tmp_path / "b", above, gate=1.9))
    assert not counts.supports


def test_the_sum_after_pruning_in_rounds_needs_controls_of_all_sizes(tmp_path: Path) -> None:
    above = {SMALL: [0.05, 0.07, 0.09], LARGE: [0.01, 0.02, 0.03]}
    assert len(findings(COMBINED_LOSSES, both(tmp_path / "a", above, recovered=True))) == 1
    for number, controls in enumerate([(), (SMALL,)]):
        store = both(tmp_path / f"b{number}", above, recovered=True, controls=controls)
        assert findings(COMBINED_LOSSES, store) == []
        [why] = COMBINED_LOSSES.sentences(COMBINED_LOSSES.rows(store))
        assert "only against dense models that were trained as long" in why
