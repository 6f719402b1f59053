"""Pictures for readers without scripts and for paper: matplotlib's SVG, as elements of the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import Row
from tlc_jax.studies.page.learning_points import Training
from tlc_jax.studies.page.page_schema import Part
from tlc_jax.studies.picture import colours, figure_of, plain

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tlc_jax",
    "font.family": "sans-serif",
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.framealpha": 0.0,
}
_DIGITS = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"(url\(#|^#)")


def exhibit_picture(exhibit: Exhibit, rows: list[Row], prefix: str, largest: int) -> ElementTree.Element:
    """The plots of an exhibit, as a PNG where their SVG has more than so many characters; `prefix` makes the
    names of its parts unique in the page."""
    import matplotlib as mpl

    with colours(), mpl.rc_context(_STYLE):
        panels = exhibit.panels(rows)
        figure = figure_of([[(exhibit.draw, panel) for panel in line] for line in panels])
        return _element(figure, exhibit.name, prefix, largest)


def curves_picture(
    trainings: Sequence[Training], part: Part, prefix: str, largest: int
) -> ElementTree.Element:
    """The evaluations of trainings over the first of their axes; `prefix` and `largest` as above."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    axis, label = part["axes"][0]
    if any(name == "training_seconds" for name, _ in part["axes"]):
        axis, label = "training_seconds", "training seconds"
    with colours(), mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        models = list(dict.fromkeys(training.model for training in trainings))
        named = set[str]()
        for training in trainings:
            values = [float(point["value"]) for point in training.points]
            shown = None if training.model in named or len(models) > 12 else plain(training.model)
            style = ":" if training.kind == "trunk" else "o-"
            colour = f"C{models.index(training.model) % 10}"
            axes.plot(
                [point[axis] for point in training.points],
                values,
                style,
                label=shown,
                color=colour,
                markersize=3,
            )
            named.add(training.model)
        axes.set(xscale="log", xlabel=label, ylabel=plain(f"{part['metric']} on {part['trained_on']}"))
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.xaxis.set_minor_formatter("{x:,g}")
        if part["logarithmic"]:
            axes.set_yscale("log")
            for setter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                setter("{x:.3g}")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
        return _element(figure, "learning curves", prefix, largest)


def _element(figure: Figure, name: str, prefix: str, largest: int) -> ElementTree.Element:
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    if len(written.getvalue()) > largest:
        return _png(figure, name)
    svg = ElementTree.fromstring(written.getvalue())
    for element in svg.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.attrib.clear()
        for key, value in attributes.items():
            value = f"{prefix}{value}" if key == "id" else _REFERENCE.sub(rf"\1{prefix}", value)
            value = _DIGITS.sub(lambda number: f"{float(number[0]):.2f}", value)
            element.set(key, value.replace("#000000", "currentColor"))
        for child in list(element):  # its style would be that of the whole page
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                element.remove(child)
    svg.attrib |= {"role": "img", "aria-label": name, "stroke-linejoin": "round", "stroke-linecap": "butt"}
    svg.attrib.pop("version", None)
    return svg


def _png(figure: Figure, name: str) -> ElementTree.Element:
    """In 64 colours, which are a third of the bytes."""
    from PIL import Image

    drawn, written = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(64).save(written, "PNG", optimize=True)
    data = base64.b64encode(written.getvalue()).decode("ascii")
    return ElementTree.Element("img", {"alt": name, "src": f"data:image/png;base64,{data}"})
