"""What changes over a run, as functions of the budget's used fraction: learning rate, reach of attention.

Computed on the host in float64 (near the end, 1 - fraction has few digits left in float32) and given
to the compiled step as scalars, so that a schedule over seconds costs no compilation.
"""

from __future__ import annotations

import math

import numpy as np

from tlc_jax.config import Config, ScheduleConfig

_FIRST_REACH = 3  # neighbours on each side; 8 leave the plateau of MLM at twice as many tokens


def learning_rate(peak: float, schedule: ScheduleConfig, fraction: float) -> float:
    """Rate of an update that begins with `fraction` of the budget used: up to the peak, at last down to 0.

    Over steps this is fairseq's polynomial decay of power 1, whose first update has rate 0
    (polynomial_decay_schedule.py).
    """
    rising = fraction / schedule.warmup if schedule.warmup else 1.0
    cooldown = 1.0 - schedule.warmup if schedule.cooldown is None else schedule.cooldown
    falling = (1.0 - fraction) / cooldown if cooldown else 1.0
    return peak * max(0.0, min(rising, falling, 1.0))


def attention_reach(schedule: ScheduleConfig, fraction: float, length: int) -> int:
    """How many tokens away attention sees: from 3, slowly at first, to the whole row of `length`.

    Its logarithm grows with the square of the time; it is `length` once `schedule.local_attention` of the
    budget is used (docs/local_attention.md).
    """
    if fraction >= schedule.local_attention:
        return length
    widened = (fraction / schedule.local_attention) ** 2
    return min(length, int(_FIRST_REACH * (length / _FIRST_REACH) ** widened))


def noam_rate(constant: float, warmup: int, hidden: int, step: int) -> float:
    """T2T's "constant * linear_warmup * rsqrt_decay * rsqrt_hidden_size" of the update that follows `step`
    finished ones; the first has rate 0 (paper 3.1; learning_rate.py)."""
    return constant * min(1.0, step / warmup) / math.sqrt(max(step, warmup) * hidden)


def controls(config: Config, fraction: float, step: int) -> dict[str, np.ndarray]:
    """The scalars that the update after `step` finished ones is computed with; `attention_reach` only where a
    config asks for it."""
    peak, noam, length = (
        config.optimizer.learning_rate,
        config.schedule.noam_steps,
        config.data.sequence_length,
    )
    if noam is None:
        rate = learning_rate(peak, config.schedule, fraction)
    else:
        rate = noam_rate(peak, noam, config.model.hidden_size, step)
    found: dict[str, np.ndarray] = {"learning_rate": np.array(rate, np.float32)}
    if config.schedule.local_attention:
        found["attention_reach"] = np.array(attention_reach(config.schedule, fraction, length), np.int32)
    return found
