"""The learning rate against fairseq's numbers; the attention window against its definition."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlc_jax.config import (
    BudgetConfig,
    BudgetMeasure,
    ClassificationConfig,
    Config,
    DataConfig,
    ModelConfig,
    ScheduleConfig,
)
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


@given(length=st.integers(8, 512))
def test_attention_widens_slowly_at_first_to_the_whole_row(length: int) -> None:
    windows = [attention_window(tenth / 10, length) for tenth in range(10)]
    assert windows[0] == 3
    assert attention_window(1.0, length) == attention_window(7.5, length) == length
    for tenth, window in enumerate(windows):
        exact = 3 ** (1 - tenth**2 / 100) * length ** (tenth**2 / 100)
        assert exact - 1 - 1e-6 < window < exact + 1e-6


@pytest.mark.parametrize("follows", typing.get_args(BudgetMeasure))
@pytest.mark.parametrize(("layers", "width", "batch_size"), [(1, 64, 8), (12, 768, 64)])
def test_the_window_follows_tokens_whatever_the_size_the_batch_and_the_budget(
    layers: int, width: int, batch_size: int, follows: BudgetMeasure
) -> None:
    """By hand: from 3 to 192 are 6 doublings; half of the tokens make a quarter of them, 1.5, and three
    quarters of the tokens 3.375."""
    config = Config(
        model=ModelConfig(num_layers=layers, hidden_size=width, max_positions=192),
        data=DataConfig(sequence_length=192),
        schedule=ScheduleConfig(follows=follows, local_attention_tokens=192 * 2**14),
        budget=BudgetConfig(**{follows: 100}),
        batch_size=batch_size,
    )
    updates = 2**14 // batch_size
    windows = {
        part: {int(controls(config, fraction, int(part * updates))["attention_reach"]) for fraction in (0, 1)}
        for part in (0, 0.5, 0.75, 1, 3)
    }
    assert windows == {0: {3}, 0.5: {int(3 * 2**1.5)}, 0.75: {int(3 * 2**3.375)}, 1: {192}, 3: {192}}


def test_a_run_that_began_with_a_share_of_its_budget_keeps_it() -> None:
    plain = Config()
    local = Config(schedule=ScheduleConfig(local_attention=0.5))
    assert controls(plain, 0.5, 10).keys() == {"learning_rate"}
    assert controls(local, 0.0, 0)["attention_reach"] == 3
    assert controls(local, 0.25, 10)["attention_reach"] == int(3 * (128 / 3) ** 0.25)
    assert controls(local, 0.5, 10)["attention_reach"] == 128


def test_a_count_of_tokens_goes_with_masked_language_models_alone() -> None:
    counted = ScheduleConfig(local_attention_tokens=1000)
    with pytest.raises(ValueError, match="is for masked language models, not for a ClassificationConfig"):
        Config(task=ClassificationConfig(), schedule=counted)
    with pytest.raises(ValueError, match=r"takes the place of schedule\.local_attention: drop that"):
        ScheduleConfig(local_attention=0.5, local_attention_tokens=1000)
    with pytest.raises(ValueError, match="local_attention_tokens must be at least 1"):
        ScheduleConfig(local_attention_tokens=0)
