"""Learning rate and attention window, as functions of the used fraction of the budget.

Both are computed on the host in float64 (near the end, 1 - fraction has few digits left in float32) and given
to the compiled step as scalars, so that a schedule over seconds is not compiled again.
"""

from __future__ import annotations

import math

import numpy as np

from tlc_jax.config import Config, ScheduleConfig

_FIRST_WINDOW = 3  # tokens on each side; with 8, MLM leaves its plateau after twice as many tokens


def learning_rate(peak: float, schedule: ScheduleConfig, fraction: float, step: int = 0) -> float:
    """Learning rate of the update after `step` finished ones, which begins when `fraction` of the budget is
    used: a linear warm-up to the peak, and a linear cooldown to 0.

    Over steps this is fairseq's polynomial decay of power 1 (polynomial_decay_schedule.py), whose first
    update has rate 0.
    """
    if schedule.warmup_steps:
        rising = step / schedule.warmup_steps
    else:
        rising = fraction / schedule.warmup if schedule.warmup else 1.0
    cooldown = 1.0 - schedule.warmup if schedule.cooldown is None else schedule.cooldown
    falling = (1.0 - fraction) / cooldown if cooldown else 1.0
    return peak * max(0.0, min(rising, falling, 1.0))


def attention_window(widened: float, length: int) -> int:
    """How many tokens on each side a token attends to: from 3, slowly at first, to the whole `length`.

    `widened` is the part of the widening that is over: the logarithm of the window grows with its square
    (docs/local_attention.md).
    """
    if widened >= 1:
        return length
    return min(length, int(_FIRST_WINDOW * (length / _FIRST_WINDOW) ** (widened**2)))


def noam_rate(constant: float, warmup: int, hidden: int, step: int) -> float:
    """T2T's "constant * linear_warmup * rsqrt_decay * rsqrt_hidden_size" (learning_rate.py; paper 2.1) of the
    update after `step` finished ones; the first has rate 0."""
    return constant * min(1.0, step / warmup) / math.sqrt(max(step, warmup) * hidden)


def controls(config: Config, fraction: float, step: int) -> dict[str, np.ndarray]:
    """The scalars that the update after `step` finished ones is computed with. `attention_reach`, the
    attention window, is among them where the config has one."""
    peak, schedule = config.optimizer.learning_rate, config.schedule
    if schedule.noam_steps is None:
        rate = learning_rate(peak, schedule, fraction, step)
    else:
        rate = noam_rate(peak, schedule.noam_steps, config.model.hidden_size, step)
    scalars: dict[str, np.ndarray] = {"learning_rate": np.array(rate, np.float32)}
    if (widened := _widened(config, fraction, step)) is not None:
        window = attention_window(widened, config.data.sequence_length)
        scalars["attention_reach"] = np.array(window, np.int32)  # its name in metrics.jsonl
    return scalars


def _widened(config: Config, fraction: float, step: int) -> float | None:
    """The part of the widening of the attention window that is over; None where there is no window."""
    schedule = config.schedule
    if schedule.local_attention_tokens is not None:
        return step * config.batch_size * config.data.sequence_length / schedule.local_attention_tokens
    return fraction / schedule.local_attention if schedule.local_attention else None
