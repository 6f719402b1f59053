"""The pictures of a study: one of all exhibits that are a single plot, and one of each other exhibit."""

from __future__ import annotations

from collections.abc import Sequence

from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.exhibits.exhibit import Exhibit
from tlc_jax.studies.item_store import Row
from tlc_jax.studies.picture import save_lines, save_panels

Shown = Sequence[tuple[Exhibit, list[Row]]]


def save_pictures(shown: Shown, path: AnyPath) -> dict[str, AnyPath]:
    """Draw exhibits: those of one plot in `path`, each other one in a picture beside it that is named after
    it. Returns the paths by the name of the exhibit; '' is the picture of several."""
    single, pictures = [], dict[str, AnyPath]()
    for exhibit, rows in shown:
        lines = [[(exhibit.draw, panel) for panel in line] for line in exhibit.panels(rows)]
        if len(lines) == len(lines[0]) == 1:
            single += lines[0]
            continue
        name = f"{path.name.removesuffix(path.suffix)}_{exhibit.name.replace(' ', '_')}{path.suffix}"
        pictures[exhibit.name] = path.with_name(name)
        save_lines(lines, pictures[exhibit.name])
    if single:
        save_panels(single, path)
        pictures = {"": path, **pictures}
    return pictures
