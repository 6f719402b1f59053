"""What plots have in common, and writing pictures to local and remote paths."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from tlc_jax.core.errors import UserError
from tlc_jax.core.printable import printable
from tlc_jax.storage.paths import AnyPath, write_bytes
from tlc_jax.storage.writable import check_writable
from tlc_jax.studies.statistics import interval
from tlc_jax.tasks.metric import NATS_PER_BYTE

if TYPE_CHECKING:  # slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = list[dict[str, Any]]


COLOURS = tuple("#3f90da #ffa90e #bd1f01 #832db6 #a96b59 #e76300 #b9ac70 #92dadd #717581 #94a4a2".split())
"""Different also to people who see fewer colours (Petroff 2021, arXiv 2107.02270); the greys last, since
gates are grey."""


def colours() -> AbstractContextManager[None]:
    """The settings that pictures are drawn and saved with."""
    import matplotlib as mpl
    from matplotlib.rcsetup import cycler

    return mpl.rc_context({"axes.prop_cycle": cycler(color=COLOURS)})


def check_picture(path: AnyPath) -> None:
    """UserError if no picture can be written to `path`; to be called before the work that it shows."""
    from matplotlib.backend_bases import FigureCanvasBase

    # pgf needs TeX, which may not be installed
    known = sorted(kind for kind in FigureCanvasBase.get_supported_filetypes() if kind != "pgf")
    if path.suffix.removeprefix(".").lower() not in known:
        raise UserError(f"--output {path} is not a picture format: end it in one of {', '.join(known)}")
    check_writable(path, "--output")


def plain(text: str) -> str:
    """Escape text for a label: matplotlib typesets what is between dollar signs as mathematics, and leaves
    labels that begin with an underscore out of a legend."""
    label = printable(text).replace("$", r"\$")
    return f" {label}" if label.startswith("_") else label


def logarithmic_losses(axes: Axes, metric: str) -> None:
    """Give losses a logarithmic axis with plain numbers: differences of good models show beside bad ones."""
    if metric == NATS_PER_BYTE.name:
        axes.set_yscale("log")
        for setter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            setter("{x:.3g}")  # a narrow range needs three digits


def logarithmic_x(axes: Axes) -> None:
    """Give seconds, updates or parameters a logarithmic axis, plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.xaxis.set_minor_formatter("")


def annotate_apart(axes: Axes, labels: Sequence[tuple[tuple[float, float], str, str]]) -> None:
    """Write (point, text, colour) beside their points, the first ones first; a text that would cover one that
    is written before is left out. To be called when the axes have their limits."""
    size, taken = 6, list[np.ndarray]()
    for point, text, colour in labels:
        corner = axes.transData.transform(point) * 72 / axes.figure.dpi
        box = np.array([corner, corner + np.array([0.6 * size * len(text), 1.2 * size])])
        if any((box[0] < other[1]).all() and (other[0] < box[1]).all() for other in taken):
            continue
        taken.append(box)
        axes.annotate(text, point, (3, 3), textcoords="offset points", fontsize=size, color=colour)


def draw_means(
    axes: Axes, x: Sequence[float], samples: Sequence[np.ndarray], label: str, **style: Any
) -> None:
    """Draw the mean of each sample of seeds over `x`, with its interval where there are several seeds;
    nothing without samples."""
    if not samples:
        return
    means = np.array([float(np.mean(sample)) for sample in samples])
    ends = [interval(sample) or (mean, mean) for sample, mean in zip(samples, means, strict=True)]
    low, high = np.array(ends).T
    axes.errorbar(
        x,
        means,
        yerr=[means - low, high - means],
        markersize=4,
        capsize=2,
        label=plain(label),
        **{"fmt": "o-", **style},
    )


def save(figure: Figure, path: AnyPath) -> None:
    """Write the figure in the format of the path's suffix."""
    check_picture(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=130)
    write_bytes(path, picture.getvalue())


Plot = tuple[Callable[["Axes", Rows], None], Rows]
"""A function that draws rows, and the rows."""
_IN_A_LINE = 3  # at most


def save_panels(plots: Sequence[Plot], path: AnyPath) -> None:
    """Write a picture of plots, in as few lines as hold three each, which are about equally long."""
    lines = math.ceil(len(plots) / _IN_A_LINE)
    length = math.ceil(len(plots) / lines)
    save_lines([plots[start : start + length] for start in range(0, len(plots), length)], path)


def save_lines(lines: Sequence[Sequence[Plot]], path: AnyPath) -> None:
    """Write a picture of lines of plots, one below the other."""
    with colours():
        save(figure_of(lines), path)


def figure_of(lines: Sequence[Sequence[Plot]]) -> Figure:
    """Draw lines of plots, one below the other."""
    from matplotlib.figure import Figure

    columns = max(map(len, lines))
    figure = Figure(figsize=(5.5 * columns, 4.5 * len(lines)), layout="constrained")
    for all_axes, plots in zip(figure.subplots(len(lines), columns, squeeze=False), lines, strict=True):
        for axes, (draw, rows) in zip(all_axes, plots, strict=False):
            draw(axes, rows)
        for axes in all_axes[len(plots) :]:
            axes.set_axis_off()
    return figure
