"""`python -m tlc_jax.report W`: the page of studies, plans and runs. `report curves`: a picture of runs over
time. `report errors` and `report sensitivity`: how far compression moves weights, and how much
predictions change with each matrix. `report study`: a study as Markdown, or its rows as a table. `report
claims`: what studies say about each claim of the paper. `report frontier`: accuracy by bytes, beside
published models."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from pathlib import Path

from tlc_jax.config.report_options import ErrorsConfig, SensitivityConfig
from tlc_jax.core import cli
from tlc_jax.core.entry_point import run_command
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the page of studies, plans and runs: one file of HTML with the answer, plots with sliders for
    time and bytes, and tables. The other reports are `report curves`, `report errors`, `report sensitivity`,
    `report study`, `report claims` and `report frontier`."""

    workdir: cli.Positional[tuple[str, ...]]
    """The folders of studies, plans and runs."""
    output: str = "report.html"
    """The page to write."""
    watch: bool = False
    """Write the page again whenever something in the folders has changed, until Ctrl-C."""
    serve: bool = False
    """The same, and show it in a browser of this machine, where it is loaded again by itself."""
    port: int = 0
    """The port of --serve; 0 takes one that is free."""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Draw curves of runs over training time as a picture."""

    run: cli.Models[tuple[str, ...]]
    step_time: tuple[str, ...] = ()
    """Timing files of `bench step-time`, one for each kind of run: curves are drawn over steps x measured
    seconds of a step. Without them: over each run's own training seconds."""
    output: str = "curves.png"
    """The picture to write: .png, .pdf or .svg."""


@dataclasses.dataclass(frozen=True)
class Errors(ErrorsConfig):
    __doc__ = ErrorsConfig.__doc__
    run: cli.Models[tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Sensitivity(SensitivityConfig):
    __doc__ = SensitivityConfig.__doc__
    run: cli.Model[str]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Write a study as a page with its tables, conclusions and picture, or all of its measurements as one
    table."""

    workdir: cli.Positional[str]
    """The folder of the study."""
    output: str = "study.md"
    """The file to write: .md (a page, with its pictures beside it), .parquet or .csv (all measurements,
    without the scores of examples). A name without suffix is a new folder for a copy of the study in two
    files, without paths of this machine, to hand on."""


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Write what studies found about each claim of the paper, as a page: effects, intervals and verdicts."""

    workdir: cli.Positional[tuple[str, ...]]
    """The folders of the studies."""
    output: str = "claims.md"
    """The page to write."""


@dataclasses.dataclass(frozen=True)
class Frontier:
    """Write a page that holds the files of studies of SST-2 and MNLI against published models: accuracy by
    megabytes, with its picture beside it."""

    workdir: cli.Positional[tuple[str, ...]]
    """The folders of the studies."""
    output: str = "frontier.md"
    """The page to write."""


REPORT = {
    "page": Report,
    "curves": Curves,
    "errors": Errors,
    "sensitivity": Sensitivity,
    "study": Rows,
    "claims": Ledger,
    "frontier": Frontier,
}


def main(argv: list[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments[:1]:
        case ["errors"]:
            errors = cli.parse_plain(Errors, arguments[1:], "report errors")
            from tlc_jax.studies.errors_report import report_errors

            report_errors(errors)
        case ["sensitivity"]:
            sensitivity = cli.parse_plain(Sensitivity, arguments[1:], "report sensitivity")
            from tlc_jax.studies.sensitivity_report import report_sensitivity

            report_sensitivity(sensitivity)
        case ["study"]:
            rows = cli.parse_plain(Rows, arguments[1:], "report study")
            from tlc_jax.studies.export_study import export_study

            export_study(rows.workdir, rows.output)
        case ["claims"]:
            ledger = cli.parse_plain(Ledger, arguments[1:], "report claims")
            from tlc_jax.studies.ledger import write_ledger

            write_ledger(ledger.workdir, ledger.output)
        case ["frontier"]:
            frontier = cli.parse_plain(Frontier, arguments[1:], "report frontier")
            from tlc_jax.studies.published_frontier import write_frontier

            write_frontier(frontier.workdir, frontier.output)
        case ["curves"]:
            curves = cli.parse_plain(Curves, arguments[1:], "report curves")
            from tlc_jax.studies.curves import report_curves

            report_curves(curves.run, curves.step_time, curves.output)
        case _:
            page = cli.parse_plain(Report, arguments[arguments[:1] == ["page"] :])
            _refuse_misspelt(page.workdir[0])
            _write_page(page)


def _write_page(page: Report) -> None:
    if page.port and not page.serve:
        raise UserError(f"--port {page.port} is that of --serve: add it")
    if page.serve or page.watch:
        from tlc_jax.studies.page.live_page import watch

        watch(page.workdir, page.output, page.port if page.serve else None)
    else:
        from tlc_jax.studies.page.page_file import write_report

        write_report(page.workdir, page.output)


def _refuse_misspelt(name: str) -> None:
    """UserError where the first folder is none, and nearly the name of a report."""
    if (near := difflib.get_close_matches(name, REPORT, n=1)) and not Path(name).exists():
        prog = command("report")
        raise UserError(
            f"{prog} has no report {name} and there is no folder {name}; perhaps {prog} {near[0]}"
        )


if __name__ == "__main__":
    run_command(main)
