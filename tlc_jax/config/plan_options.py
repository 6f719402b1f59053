"""The options of `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tlc_jax.config.marks import COOLDOWN, parse_mark
from tlc_jax.config.validation import check

FEWEST_POINTS, FEWEST_SIZES = 8, 3
"""Measured losses, and sizes that they are of."""
LONGER, LARGER = 8, 4
"""How many times the tokens, and the parameters, of the largest pilot a plan reaches."""
MOST_HOURS = 1_000_000
PILOT_MARKS = ("1/8", "1/4", "1/2", "1")
"""At which branches of a pilot end: the first is for the error of predicting longer trainings."""
PILOT_SHARE = 1 - COOLDOWN + COOLDOWN * sum(parse_mark(mark).share or 0 for mark in PILOT_MARKS)
"""Training time of a pilot's trunk and branches over that of its longest branch."""


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Say which size to train for a number of hours, and how to compress it to a number of megabytes.

    Pilots are short trainings of at least three sizes with finished branches: stores of studies, or one that
    is trained here. Without any of --device-file and --peak-tflops, the updates of each size are timed on
    this device.
    """

    workdir: str
    """The folder to write: plan.json, the config documents of its commands, and the pilot's study."""
    hours: float
    """Hours of training that the model may take."""
    target_mb: float
    """Megabytes (10^6 bytes) that its compressed file may have."""
    store: tuple[str, ...] = ()
    """Folders of studies whose branches are the pilots."""
    pilot_minutes: Optional[float] = None
    """Train a pilot of all sizes for this long altogether, in WORKDIR/pilot, or resume the one that is there.
    Compilation, evaluation and compression come on top."""
    device_file: tuple[str, ...] = ()
    """Timing files of `bench step-time` on the device meant, one for each size."""
    peak_tflops: Optional[float] = None
    """Of a device that is not here and has no timing files: its largest number of 10^12 operations in a
    second, such as 989 of an H100 in bfloat16. Times are then estimates."""
    utilisation: tuple[float, float] = (0.1, 0.4)
    """The least and the largest share of the peak that an update is expected to reach."""

    def check(self) -> None:
        """ValueError if a value is wrong, or if the options contradict each other."""
        check(
            0 < self.hours <= MOST_HOURS,
            f"--hours must be above 0 and at most {MOST_HOURS:,}, not {self.hours:g}",
        )
        check(self.target_mb > 0, f"--target-mb must be positive, not {self.target_mb:g}")
        minutes = self.pilot_minutes
        check(minutes is None or minutes > 0, f"--pilot-minutes must be positive, not {minutes}")
        check(
            bool(self.store) or minutes is not None,
            "a plan needs pilots: give --store with folders of studies, or --pilot-minutes",
        )
        peak, (low, high) = self.peak_tflops, self.utilisation
        check(peak is None or peak > 0, f"--peak-tflops must be positive, not {peak}")
        check(0 < low <= high <= 1, f"--utilisation must be two rising shares, not {low:g} {high:g}")
        check(
            peak is None or not self.device_file,
            "--device-file has measured times, which --peak-tflops would only estimate: give one of them",
        )
