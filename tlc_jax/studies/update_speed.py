"""How long an update of each size takes on the device that a plan is for: measured here, read from timing
files, or estimated for a device that is not here.

An estimate is the number of operations of an update over the device's largest number in a second times a
share that is not known, in a range that is stated. Operations are those of the matrix products
(`models/flops.py`), as everywhere: XLA's cost analysis counts the body of a loop once, so that it has as many
for 4 layers as for 2 (2x64 and 4x64 of quickstart_study: 1.57e9 both, jax 0.10.2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from tlc_jax.config import Config
from tlc_jax.config.plan_options import PlanConfig
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.runs.step_time import measure_in_turns
from tlc_jax.runs.timing_files import read_timings, timings_of
from tlc_jax.storage.paths import parse_path
from tlc_jax.studies.made import device
from tlc_jax.tasks.kinds import kind_of

STEPS = 20
"""Updates that are timed at least, once their time has settled."""
TURNS = 5
"""In which they are timed: a machine changes its speed, and sizes are compared."""
_TERA = 1e12


@dataclass(frozen=True)
class Speed:
    """Seconds of an update: between `low` and `high`, which are equal where it was measured."""

    low: float
    high: float
    source: str

    @property
    def seconds(self) -> float:
        """The geometric mean of the ends."""
        return float((self.low * self.high) ** 0.5)


def speeds_of(
    configs: Mapping[str, Config], options: PlanConfig, console: Console
) -> tuple[str, dict[str, Speed]]:
    """The device and the speed of each size. UserError where a size has no timing file, or two."""
    if options.device_file:
        return _from_files(configs, options)
    if options.peak_tflops is not None:
        low, high = options.utilisation
        name = f"a device of {options.peak_tflops:g} TFLOP/s, {low:.0%} to {high:.0%} of them used (estimate)"
        return name, {size: _estimated(config, options) for size, config in configs.items()}
    console.print(f"timing {STEPS} updates or more of each of {', '.join(configs)}, in {TURNS} turns")
    timings = measure_in_turns(
        [(config, None) for config in configs.values()], console, steps=STEPS, turns=TURNS
    )
    seconds = [float(timing["mean_seconds"]) for timing in timings]
    return device(), {
        size: Speed(each, each, "measured") for size, each in zip(configs, seconds, strict=True)
    }


def _from_files(configs: Mapping[str, Config], options: PlanConfig) -> tuple[str, dict[str, Speed]]:
    timings = read_timings([parse_path(path) for path in options.device_file], "--device-file")
    speeds, devices = {}, ""
    for size, config in configs.items():
        fitting = timings_of(config, timings)
        if len(fitting) != 1:
            raise UserError(
                f"{size} needs one timing file of its model, task, batch size and length, but "
                f"{len(fitting)} of --device-file are: make one on the device with "
                f"{command('bench step-time')}, or leave {size} out of --sizes"
            )
        timing = timings[fitting[0]]
        seconds, devices = float(timing["mean_seconds"]), str(timing["devices"])
        speeds[size] = Speed(seconds, seconds, fitting[0].name)
    return devices, speeds


def _estimated(config: Config, options: PlanConfig) -> Speed:
    """Of one micro-batch: how many an update is made of changes no number of operations."""
    assert options.peak_tflops is not None
    whole = dataclasses.replace(config, micro_batch=None)
    objective = kind_of(whole).objective(whole, None)
    operations = objective.update_flops(objective.largest_batch())
    at_peak = operations / (options.peak_tflops * _TERA)
    least, most = options.utilisation
    return Speed(at_peak / most, at_peak / least, "estimated")
