"""The study command: its folder, its runs, then the table, the headline and the picture."""

from __future__ import annotations

from tlc_jax.config.study_options import StudyConfig
from tlc_jax.storage.lock import locked
from tlc_jax.storage.paths import AnyPath
from tlc_jax.studies.figure import draw
from tlc_jax.studies.grid import run_study
from tlc_jax.studies.result_store import ResultStore
from tlc_jax.studies.results import check_result
from tlc_jax.studies.same_data import SOURCES, SameData
from tlc_jax.studies.study_record import open_folder_of
from tlc_jax.studies.verdict import headline, table
from tlc_jax.training.view import make_console


def study(config: StudyConfig, workdir: AnyPath) -> None:
    """Run what is not finished, then write study.png and print the results."""
    console = make_console()
    config = open_folder_of(config, workdir, SameData(workdir / SOURCES))
    with locked(workdir):
        store = ResultStore(workdir / "results.jsonl", check_result)
        run_study(config, workdir, store, console)
        console.print(table(store))
        for sentence in headline(store):
            console.print(sentence)
        draw(store, workdir / "study.png")
    console.print(f"picture: {workdir / 'study.png'}, numbers: {workdir / 'results.jsonl'}")
