"""`python -m tlc_jax.report --run RUN RUN`: curves over training time. `report errors` and `report
sensitivity`: how far compression moves weights, and how much predictions change with each matrix."""

from __future__ import annotations

import dataclasses
import sys

from tlc_jax.config.study_options import ErrorsConfig, SensitivityConfig
from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw curves of runs over training time. The other two reports are `report errors` and `report
    sensitivity`."""

    run: tuple[str, ...]
    """Run directories."""
    step_time: tuple[str, ...] = ()
    """Timing files of `bench step-time`, one for each kind of run: curves are drawn over steps x measured
    seconds of a step. Without them: over each run's own training seconds."""
    output: str = "curves.png"
    """The picture to write: .png, .pdf or .svg."""


REPORT = {"curves": Report, "errors": ErrorsConfig, "sensitivity": SensitivityConfig}


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments[:1]:
        case ["errors"]:
            errors = cli.parse_plain(ErrorsConfig, arguments[1:], "report errors")
            from tlc_jax.studies.errors_report import report_errors

            report_errors(errors)
        case ["sensitivity"]:
            sensitivity = cli.parse_plain(SensitivityConfig, arguments[1:], "report sensitivity")
            from tlc_jax.studies.sensitivity_report import report_sensitivity

            report_sensitivity(sensitivity)
        case _:
            curves = cli.parse_plain(Report, arguments[arguments[:1] == ["curves"] :])
            from tlc_jax.studies.curves import report_curves

            report_curves(curves.run, curves.step_time, curves.output)


if __name__ == "__main__":
    run_command(main)
