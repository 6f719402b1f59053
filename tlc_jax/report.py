"""`python -m tlc_jax.report --run RUN RUN --output curves.png`: curves of runs over training time."""

from __future__ import annotations

import dataclasses

from tlc_jax.core import cli
from tlc_jax.core.errors import run_door


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw curves of runs over training time."""

    run: tuple[str, ...]
    """Run directories."""
    step_time: tuple[str, ...] = ()
    """Timing files of `python -m tlc_jax.bench step-time`, one for each kind of run: draws over steps x
    measured seconds of a step. None: over each run's own training seconds."""
    output: str = "curves.png"
    """The picture: .png, .pdf or .svg."""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse_plain(Report, argv)
    from tlc_jax.core.place import locate
    from tlc_jax.studies.curves import draw_curves, read_curves

    curves = read_curves([locate(run) for run in args.run], [locate(path) for path in args.step_time])
    draw_curves(curves, bool(args.step_time), locate(args.output))
    for curve in curves:
        print(f"{curve.label}: {curve.name} {curve.values[-1]:.4g} after {curve.seconds[-1]:,.1f} s")
    print(f"drawn in {args.output}")


if __name__ == "__main__":
    run_door(main)
