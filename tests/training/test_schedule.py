"""The learning rate against fairseq's numbers; the reach of attention against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.config import Config, ScheduleConfig
from tlc_jax.training.schedule import attention_window, controls, learning_rate

# fairseq polynomial_decay: lr 5e-4, 10,000 warm-up updates, 125,000 in all; update k uses n = k - 1
FAIRSEQ = {1: 0.0, 2: 5e-8, 5001: 2.5e-4, 10001: 5e-4, 10002: 4.9999565e-4, 67501: 2.5e-4, 125000: 4.3478e-9}


@pytest.mark.parametrize(("update", "rate"), FAIRSEQ.items())
def test_schedule_is_fairseqs(update: int, rate: float) -> None:
    found = learning_rate(5e-4, ScheduleConfig(warmup=0.08), (update - 1) / 125_000)
    assert found == pytest.approx(rate, rel=1e-4, abs=1e-15)


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_schedule_ends(warmup: float) -> None:
    def rate(fraction: float) -> float:
        return learning_rate(1.0, ScheduleConfig(warmup=warmup), fraction)

    assert rate(warmup) == 1.0
    assert rate(1.0) == rate(1.5) == 0.0
    assert 0 < rate(0.9) < rate(0.75) < 1


@given(length=st.integers(8, 512), share=st.floats(0.01, 0.9))
def test_attention_widens_slowly_at_first_to_the_whole_row(length: int, share: float) -> None:
    schedule = ScheduleConfig(local_attention=share)
    reaches = [attention_window(schedule, share * tenth / 10, length) for tenth in range(10)]
    assert reaches[0] == 3
    assert attention_window(schedule, share, length) == attention_window(schedule, 1.0, length) == length
    for tenth, reach in enumerate(reaches):
        exact = 3 ** (1 - tenth**2 / 100) * length ** (tenth**2 / 100)
        assert exact - 1 - 1e-6 < reach < exact + 1e-6


def test_nothing_is_controlled_that_is_not_asked_for() -> None:
    plain = Config()
    local = Config(schedule=ScheduleConfig(local_attention=0.5))
    assert controls(plain, 0.5, 10).keys() == {"learning_rate"}
    assert controls(local, 0.0, 0)["attention_reach"] == 3
    assert controls(local, 0.5, 10)["attention_reach"] == 128
