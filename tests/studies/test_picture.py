"""What plots have in common."""

from __future__ import annotations

import itertools

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure

from tlc_jax.studies.picture import annotate_apart, colours

matplotlib.use("Agg")

SEEN_BY = {  # linear RGB as it is seen by people without one kind of cones (Machado et al. 2009, table 1)
    "protanopia": "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 0.004733 0.691367 0.303900",
    "none": "1 0 0 0 1 0 0 0 1",
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colour: str, seen_by: str) -> np.ndarray:
    """CIELAB of an sRGB colour, in which a distance of 2.3 is just noticed."""
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SEEN_BY[seen_by].split(), float).reshape(3, 3) @ linear, 0, 1)
    share = XYZ @ seen / np.array([0.95047, 1, 1.08883])
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen_by", SEEN_BY)
def test_colours_are_told_apart_by_everybody(seen_by: str) -> None:
    """Those that matplotlib begins with are 4.6 apart without cones for red."""
    with colours():
        cycle = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len(cycle) == 10
    seen = [lab(colour, seen_by) for colour in cycle]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 15


def test_labels_that_are_written_do_not_cover_each_other() -> None:
    """By the extents that matplotlib itself gives them; the first is always written, and so are those that
    lie far from all others."""
    figure = Figure(figsize=(5, 4), dpi=130)
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    crowd = [(float(x), float(y)) for x, y in rng.uniform(1, 3, (60, 2))]
    apart = [(20.0, 0.5), (50.0, 0.5), (80.0, 0.5)]
    axes.set(xscale="log", xlim=(0.5, 100), ylim=(0, 4))
    annotate_apart(axes, [(point, "3b 60%", "C0") for point in [*crowd, *apart]])
    figure.canvas.draw()
    written = [text.xy for text in axes.texts]  # type: ignore[attr-defined]
    assert crowd[0] in written
    assert {*apart} <= {*written}
    assert 5 < len(written) < 40
    extents = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(extents, 2))
