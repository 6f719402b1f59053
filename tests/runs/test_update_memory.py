"""The memory of an update against sizes that are counted here."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import pytest

from tlc_jax.config import Config, DataConfig, ModelConfig
from tlc_jax.runs.update_memory import update_memory

LAYERS, WIDTH, VOCAB, LENGTH = 5, 16, 300, 16
_MODEL = ModelConfig(
    num_layers=LAYERS,
    hidden_size=WIDTH,
    head_size=8,
    vocab_size=VOCAB,
    max_positions=LENGTH,
    dropout=0.0,
    attention_dropout=0.0,
    remat="none",
)
_EACH = {
    "attention": 4 * WIDTH**2 + 4 * WIDTH + 2 * WIDTH,
    "feed_forward": 8 * WIDTH**2 + 5 * WIDTH + 2 * WIDTH,
}
"""Parameters of the parts of a layer, with their norms."""


def _config(shared: Literal["none", "attention", "all"], rows: int = 8) -> Config:
    """With so many rows of the batch on each device."""
    return Config(
        model=dataclasses.replace(_MODEL, shared_layers=shared),
        data=DataConfig(sequence_length=LENGTH),
        batch_size=rows * jax.device_count(),
    )


@pytest.fixture(scope="module")
def unshared() -> dict[str, int]:
    return update_memory(_config("none"))


@pytest.mark.parametrize(
    ("shared", "parts"),
    [pytest.param("attention", ["attention"], marks=pytest.mark.slow), ("all", [*_EACH])],
)
def test_shared_layers_hold_their_parameters_and_moments_once(
    unshared: dict[str, int], shared: Literal["attention", "all"], parts: list[str]
) -> None:
    memory = update_memory(_config(shared))
    saved = 4 * (LAYERS - 1) * sum(_EACH[part] for part in parts)
    assert unshared["parameter_bytes"] - memory["parameter_bytes"] == saved
    assert unshared["optimizer_bytes"] - memory["optimizer_bytes"] == 2 * saved
    assert memory["peak_bytes"] < unshared["peak_bytes"] - 3 * saved  # gradients are shared, too


def test_the_peak_holds_all_that_is_counted(unshared: dict[str, int]) -> None:
    """And the batch: tokens, and for each of 3 masked ones of a row a position, a target and a weight."""
    batch = 4 * 8 * (LENGTH + 3 * 3)
    parts = [unshared[f"{name}_bytes"] for name in ("parameter", "optimizer", "temporary")]
    assert 0 <= unshared["peak_bytes"] - sum(parts) - batch < 2000  # keys, scalars, sums


@pytest.mark.slow
def test_a_larger_batch_needs_more_temporary_memory_only(unshared: dict[str, int]) -> None:
    memory = update_memory(_config("none", rows=64))
    assert memory["parameter_bytes"] == unshared["parameter_bytes"]
    assert memory["optimizer_bytes"] == unshared["optimizer_bytes"]
    assert memory["temporary_bytes"] > 2 * unshared["temporary_bytes"]
