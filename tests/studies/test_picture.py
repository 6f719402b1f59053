"""What plots have in common."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tlc_jax.studies.picture import annotate_apart

matplotlib.use("Agg")


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
