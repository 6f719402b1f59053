"""When a plan is refused, each with its reason and the pilot that it would need."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tlc_jax.config.plan_options import FEWEST_POINTS, FEWEST_SIZES, LARGER, LONGER, PILOT_SHARE
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.core.progress import duration
from tlc_jax.studies.law_intervals import (
    WINDOW,
    are_longest,
    fitted_range,
    in_window,
    longest_trainings,
)
from tlc_jax.studies.pilot_points import Pilot


def check_gates(pilot: Pilot, sizes: Mapping[str, float], seeds: int) -> None:
    """UserError where the longest training of one of the sizes is no better than counts alone. `seeds` are
    those that a pilot would be trained with."""
    for size, (value, gate, seconds) in pilot.above.items():
        if size in sizes:
            raise UserError(
                f"the pilot of {size} is no better than its gate after {duration(seconds)} ({pilot.metric} "
                f"{value:.4f}, counts alone reach {gate:.4f}), so it says nothing of {size} yet: give it a "
                f"pilot of {duration(4 * seconds)} (--pilot-minutes "
                f"{_minutes(4 * seconds, len(sizes) * seeds)}), or leave it out of --sizes"
            )


def check_points(pilot: Pilot) -> None:
    """UserError where too few points or sizes are left to fit a law of five constants to, or to measure how
    far it misses longer trainings."""
    used = in_window(pilot.points) if len(pilot.points) else pilot.points
    sizes, remedy = len(np.unique(used.parameters)), "train a pilot of three sizes or more, with the marks"
    if len(used) < FEWEST_POINTS or sizes < FEWEST_SIZES:
        raise UserError(
            f"the pilots have {counted(len(used), 'usable point')} of {counted(sizes, 'size')}, and a plan "
            f"needs {FEWEST_POINTS} of {FEWEST_SIZES} (losses better than their gate, in the last quarter of "
            f"the longest training of their size): {remedy} 1/4, 1/2 and 1 each"
        )
    several = len(np.unique(used.parameters[~are_longest(used)]))
    if several < FEWEST_SIZES:
        raise UserError(
            f"the pilots have a shorter and a longer training of {counted(several, 'size')}, and a plan "
            f"needs them of {FEWEST_SIZES}, to measure how well longer trainings are predicted from shorter "
            f"ones: {remedy} 1/4, 1/2 and 1 each"
        )


def check_sizes(pilot: Pilot, sizes: Mapping[str, float]) -> None:
    """UserError where a size is too much larger, or smaller, than all pilots."""
    trained = np.unique(pilot.points.parameters)
    for size, parameters in sizes.items():
        factor = max(parameters / trained[-1], trained[0] / parameters)
        if factor > LARGER:
            larger = parameters > trained[0]
            need = parameters / LARGER if larger else parameters * LARGER
            more, least = ("more", "at least") if larger else ("fewer", "at most")
            raise UserError(
                f"{size} has {parameters:,.0f} parameters, {factor:.1f} times {more} than any pilot, and a "
                f"plan reaches {LARGER} times: train a pilot with {least} {need:,.0f} parameters, or leave "
                "it out of --sizes"
            )


def check_time(
    pilot: Pilot,
    sizes: Mapping[str, float],
    tokens: Mapping[str, tuple[float, float]],
    hours: float,
    seeds: int,
) -> None:
    """UserError where a size would be trained on too many more tokens than its pilot, or on too few. `tokens`
    are those that each size is expected to see, and the most that it may see; `seeds` those that a pilot
    would be trained with."""
    trained, longest = longest_trainings(pilot.points)
    reach = np.exp(np.interp(np.log([*sizes.values()]), np.log(trained), np.log(longest)))
    ends = {size: np.array(tokens[size]) / most for size, most in zip(sizes, reach, strict=True)}
    piloted = max(pilot.seconds.values())
    size = max(ends, key=lambda size: ends[size][1])
    if (factor := ends[size][1]) > LONGER:
        needed, count = piloted * factor / LONGER, counted(len(sizes), "size")
        raise UserError(
            f"in {hours:g} h {size} sees {factor:.1f} times the tokens of its longest pilot, and a "
            f"plan reaches {LONGER} times: train a pilot of {duration(needed)} for each size on the device "
            f"of the pilots (--pilot-minutes {_minutes(needed, len(sizes) * seeds)} for {count}"
            f"{f' and {seeds} seeds' if seeds > 1 else ''}), or give --hours "
            f"{_two_digits(hours * LONGER / factor, np.floor)}"
        )
    size = min(ends, key=lambda size: ends[size][0])
    if (factor := ends[size][0]) * fitted_range() < 1:
        raise UserError(
            f"in {hours:g} h {size} sees {factor:.2g} of the tokens of its longest pilot, and a plan is "
            f"fitted to trainings of at least {1 / WINDOW:g} of it: give --hours "
            f"{_two_digits(hours / (fitted_range() * factor), np.ceil)} or more, or shorter pilots"
        )


def _two_digits(value: float, rounded: Callable[[float], float]) -> str:
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return f"{rounded(value / unit) * unit:.2g}"


def _minutes(seconds: float, trainings: int) -> str:
    """--pilot-minutes in which each training of a pilot takes so many seconds, branches included."""
    return f"{np.ceil(seconds * PILOT_SHARE * trainings / 60):.0f}"
