"""The time of an update by the paper's protocol (2.2), so that curves of runs on different machines can be
drawn over the time of one.

On an idle machine: the largest micro-batch that fits in memory, gradients accumulated to the whole batch,
steps until their time has settled, then mean and median of 100 steps. Updates whose times are compared are
timed in turns, since a machine changes its speed over minutes: what they have in common cancels in the ratio
of their times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.core.progress import stage
from tlc_jax.runs.timed_update import TimedUpdate

STEPS = 100  # paper 2.2
TURNS = 10
MOST_TURNS = 60  # of times that are compared
TURN_SECONDS = 0.5  # at least, so that what disturbs for a moment is a small part of a turn
WINDOW = 10  # steps whose median is compared with that of the WINDOW before
SETTLED = 0.05  # largest relative change
PATIENCE = 200  # steps until the time must have settled


def timed(config: Config) -> dict[str, Any]:
    """What the time of a step depends on, as in a timing file."""
    whole = dataclasses.asdict(config)
    about = {name: whole[name] for name in ("model", "task", "batch_size")}
    if config.distil.teacher is not None:
        about["teacher"] = config.distil.teacher
    return {**about, "sequence_length": config.data.sequence_length}


def measure_step_time(config: Config, console: Console) -> dict[str, Any]:
    """The content of a timing file."""
    [timing] = measure_in_turns([(config, None)], console)
    return timing


def measure_in_turns(
    updates: Sequence[tuple[Config, Config | None]],
    console: Console,
    *,
    steps: int = STEPS,
    turns: int = TURNS,
    enough: Callable[[Sequence[Sequence[float]]], bool] = lambda means: True,
) -> list[dict[str, Any]]:
    """The contents of timing files of updates, each the config and that of its teacher
    (`timed_update.TimedUpdate`), in their order. Each is timed for at least so many steps, in so many turns,
    and in more, up to 60, until the means of the turns of each are `enough`; `turn_seconds` are these means,
    the first comparable with the first of another."""
    several = len(updates) > 1
    with contextlib.ExitStack() as stack:
        timed_updates = [
            stack.enter_context(TimedUpdate(config, console, teacher, takes_turns=several))
            for config, teacher in updates
        ]
        warm_ups, counts = [], []
        for update in timed_updates:
            warm_up, seconds = settle(update.laps, console)
            warm_ups.append(warm_up)
            counts.append(max(math.ceil(steps / turns), math.ceil(TURN_SECONDS / seconds)))
        measured = take_turns([update.laps for update in timed_updates], counts, console, turns, enough)
        return [
            {
                **timed(config),
                **_about(update),
                **_summary(seconds, update.tokens),
                "warm_up_steps": warm_up,
                "settled": warm_up < PATIENCE,
            }
            for (config, _), update, seconds, warm_up in zip(
                updates, timed_updates, measured, warm_ups, strict=True
            )
        ]


def settle(laps: Callable[[int], list[float]], console: Console) -> tuple[int, float]:
    """(steps until the time settled, the median of the last of them), where `laps` gives the seconds of the
    next so many steps. After 200 steps the time is taken as it is, with a warning."""
    before, now, count = math.nan, math.nan, 0
    with stage(console, "warming up", None, "steps") as advance:
        while count < PATIENCE and not abs(now / before - 1) <= SETTLED:
            # of disjoint windows: else a slow drift or a wave passes
            before, now = now, statistics.median(laps(WINDOW))
            count += WINDOW
            advance(WINDOW)
    if count == PATIENCE:
        console.print(f"the time of a step has not settled in {PATIENCE} steps: is the machine busy?")
    return count, now


def take_turns(
    laps: Sequence[Callable[[int], list[float]]],
    counts: Sequence[int],
    console: Console,
    turns: int = TURNS,
    enough: Callable[[Sequence[Sequence[float]]], bool] = lambda means: True,
) -> list[list[list[float]]]:
    """For each of `laps` its turns, each with the seconds of as many steps as its count says."""
    measured: list[list[list[float]]] = [[] for _ in laps]
    means: list[list[float]] = [[] for _ in laps]
    with stage(console, "timing", None, "steps") as advance:
        while len(means[0]) < turns or (len(means[0]) < MOST_TURNS and not enough(means)):
            for number, (each, count) in enumerate(zip(laps, counts, strict=True)):
                seconds = each(count)
                measured[number].append(seconds)
                means[number].append(statistics.fmean(seconds))
                advance(count)
    return measured


def _about(update: TimedUpdate) -> dict[str, Any]:
    return {
        "micro_batch": update.micro_batch,
        "memory_limit_bytes": update.memory_limit,
        "peak_bytes": update.peak_bytes,
        "devices": f"{update.devices} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }


def _summary(turns: list[list[float]], tokens: float) -> dict[str, Any]:
    seconds = [each for turn in turns for each in turn]
    return {
        "mean_seconds": statistics.fmean(seconds),
        "median_seconds": statistics.median(seconds),
        "standard_deviation_seconds": statistics.stdev(seconds),
        "turn_seconds": [statistics.fmean(turn) for turn in turns],
        "steps": len(seconds),
        "tokens_per_second": tokens / statistics.fmean(seconds),
    }
