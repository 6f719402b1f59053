"""Curves of runs over training time (paper figures 2 to 5): over each run's own clock, or over the measured
time of a step, which makes runs on different machines comparable (paper 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.runs.timing_files import read_timings, timings_of
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.studies.picture import check_picture, colours, plain, save
from tlc_jax.tasks.metric import ACCURACY, CONFUSION_METRICS
from tlc_jax.training.metrics import read_metrics

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

METRICS = ("greedy_bleu", "perplexity", *sorted(CONFUSION_METRICS.keys() - {ACCURACY.name}), ACCURACY.name)
"""The first that a run has is drawn; a classification with another primary metric has an accuracy too."""


@dataclass(frozen=True)
class Curve:
    """The metric `name` of a run (set and metric, such as held_out/perplexity) over seconds of training."""

    label: str
    name: str
    seconds: tuple[float, ...]
    values: tuple[float, ...]


def report_curves(runs: Sequence[str], step_times: Sequence[str], output: str) -> None:
    """Draw the curves of `runs` and print their last values."""
    check_picture(parse_path(output))
    curves = read_curves([parse_path(run) for run in runs], [parse_path(path) for path in step_times])
    draw_curves(curves, bool(step_times), parse_path(output))
    for curve in curves:
        print(f"{curve.label}: {curve.name} {curve.values[-1]:.4g} after {curve.seconds[-1]:,.1f} s")
    print(f"drawn in {output}")


def read_curves(runs: Sequence[AnyPath], step_times: Sequence[AnyPath]) -> list[Curve]:
    """The curve of each run over its own clock or, with timing files, over steps x mean seconds of a step.

    UserError if a run does not have exactly one timing file of its model, task, batch size and length, if a
    timing file fits no run, or if two of them are of different devices, whose seconds do not compare.
    """
    timings = read_timings(step_times, "--step-time")
    used, curves = set(), []
    for root in runs:
        rundir = RunDir(root)
        if not rundir.config.is_file():
            raise UserError(f"RUN {root} is not a run directory: it has no config.json")
        fitting = timings_of(rundir.read_config(), timings)
        if timings and len(fitting) != 1:
            raise UserError(
                f"{root} needs one timing file of its model, task, batch size and length, but "
                f"{len(fitting)} were given: make one with {command('bench step-time')}"
            )
        used |= set(fitting)
        curves.append(_curve(rundir, timings[fitting[0]]["mean_seconds"] if fitting else None))
    if unused := timings.keys() - used:
        raise UserError(
            f"no run matches {', '.join(map(str, sorted(unused)))}: omit the timing file or add its run"
        )
    if len(names := {curve.name for curve in curves}) > 1:
        raise UserError(
            f"the runs were evaluated on {', '.join(sorted(names))}: draw runs with the same metric"
        )
    return curves


def draw_curves(curves: list[Curve], measured: bool, path: AnyPath) -> None:
    """Write a picture of the curves in the format of the path's suffix."""
    with colours():
        save(_figure(curves, measured), path)


def _figure(curves: list[Curve], measured: bool) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        axes.plot(curve.seconds, curve.values, "o-", markersize=3, label=plain(curve.label))
    over = "steps x measured seconds of a step" if measured else "training seconds"
    axes.set(xlabel=over, ylabel=plain(curves[0].name.replace("/", " ")))
    if curves[0].name.endswith("perplexity"):
        axes.set_yscale("log")
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis("{x:g}")
    axes.legend()
    return figure


def _curve(rundir: RunDir, step_seconds: float | None) -> Curve:
    lines = [line for line in read_metrics(rundir.metrics) if line["step"]]
    for metric in METRICS:
        names = [
            key for line in lines for key in line if key.startswith("eval/") and key.endswith(f"/{metric}")
        ]
        if names:
            break
    else:
        raise UserError(f"{rundir.metrics} has no evaluation yet: draw the run once it has been evaluated")
    points = [line for line in lines if names[0] in line]
    return Curve(
        rundir.root.name,
        names[0].removeprefix("eval/"),
        tuple(p["training_seconds"] if step_seconds is None else p["step"] * step_seconds for p in points),
        tuple(p[names[0]] for p in points),
    )
