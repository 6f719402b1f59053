"""When a plan is refused, each with its reason and the pilot that it would need."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tlc_jax.config.plan_options import FEWEST_POINTS, FEWEST_SIZES, LARGER, LONGER, PILOT_SHARE
from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import counted
from tlc_jax.core.progress import duration
from tlc_jax.studies.law_intervals import in_window, longest_trainings
from tlc_jax.studies.pilot_points import Pilot


def check_gates(pilot: Pilot, sizes: Mapping[str, float]) -> None:
    """UserError where the longest training of one of the sizes is no better than counts alone."""
    for size, (value, gate, seconds) in pilot.above.items():
        if size in sizes:
            raise UserError(
                f"the pilot of {size} is no better than its gate after {duration(seconds)} ({pilot.metric} "
                f"{value:.4f}, counts alone reach {gate:.4f}), so it says nothing of {size} yet: give it a "
                f"pilot of {duration(4 * seconds)} (--pilot-minutes {_minutes(4 * seconds, sizes)}), or "
                "leave it out of --sizes"
            )


def check_points(pilot: Pilot) -> None:
    """UserError where too few points or sizes are left to fit a law of five constants to."""
    used = in_window(pilot.points) if len(pilot.points) else pilot.points
    sizes = len(np.unique(used.parameters))
    if len(used) < FEWEST_POINTS or sizes < FEWEST_SIZES:
        raise UserError(
            f"the pilots have {counted(len(used), 'usable point')} of {counted(sizes, 'size')}, and a plan "
            f"needs {FEWEST_POINTS} of {FEWEST_SIZES} (losses better than their gate, in the last quarter of "
            "the longest training of their size): train a pilot of three sizes or more, with the marks 1/4, "
            "1/2 and 1 each"
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


def check_time(pilot: Pilot, sizes: Mapping[str, float], tokens: Mapping[str, float], hours: float) -> None:
    """UserError where a size would be trained on too many more tokens than its pilot."""
    trained, longest = longest_trainings(pilot.points)
    reach = np.exp(np.interp(np.log([*sizes.values()]), np.log(trained), np.log(longest)))
    factors = {size: tokens[size] / most for size, most in zip(sizes, reach, strict=True)}
    size = max(factors, key=factors.__getitem__)
    if factors[size] > LONGER:
        piloted = max(pilot.seconds.values())
        needed, count = piloted * factors[size] / LONGER, counted(len(sizes), "size")
        raise UserError(
            f"in {hours:g} h {size} sees {factors[size]:.1f} times the tokens of its longest pilot, and a "
            f"plan reaches {LONGER} times: train a pilot of {duration(needed)} for each size on the device "
            f"of the pilots (--pilot-minutes {_minutes(needed, sizes)} for {count}), or give --hours "
            f"{hours * LONGER / factors[size]:.2g}"
        )


def _minutes(seconds: float, sizes: Mapping[str, float]) -> str:
    """--pilot-minutes in which each size is trained for so many seconds, branches included."""
    return f"{np.ceil(seconds * PILOT_SHARE * len(sizes) / 60):.0f}"
