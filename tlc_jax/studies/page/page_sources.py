"""What a report is of: the folders of its command line, as plans, studies and runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tlc_jax.core.errors import UserError
from tlc_jax.storage.paths import AnyPath, parse_path
from tlc_jax.storage.run_directory import STUDY, RunDir
from tlc_jax.studies.page.page_body import relative_link
from tlc_jax.studies.plan_record import PLAN


@dataclass(frozen=True)
class Sources:
    """The folders of plans, of studies and of runs, each once."""

    plans: Sequence[AnyPath]
    studies: Sequence[AnyPath]
    runs: Sequence[AnyPath]

    def names_of_runs(self) -> list[str]:
        """The last part of each run's path, or where two have the same the whole path."""
        names = [root.name or str(root) for root in self.runs]
        return [
            name if names.count(name) == 1 else str(root) for name, root in zip(names, self.runs, strict=True)
        ]


def read_sources(folders: Sequence[str]) -> Sources:
    """UserError naming the first folder that holds nothing of these."""
    plans, studies, runs = dict[str, AnyPath](), dict[str, AnyPath](), dict[str, AnyPath]()
    for folder in folders:
        path = parse_path(folder)
        if (path / PLAN).is_file():
            plans[str(path)] = path
        elif (path / STUDY).is_file():
            studies[str(path)] = path
        elif RunDir(path).config.is_file():
            runs[str(path)] = path
        else:
            raise UserError(f"{folder} holds no run, study or plan: give the --workdir of one")
    return Sources(list(plans.values()), list(studies.values()), list(runs.values()))


def links_to(roots: dict[str, AnyPath], page: AnyPath) -> dict[str, str]:
    """Links from the page to the folders that are there, by their names; none from or to a bucket."""
    if not isinstance(page, Path):
        return {}
    start = page.absolute().parent
    links = dict[str, str]()
    for name, root in roots.items():
        if isinstance(root, Path) and root.is_dir():
            try:
                links[name] = relative_link(os.path.relpath(root.absolute(), start)) + "/"
            except ValueError:  # on another drive of Windows
                continue
    return links
